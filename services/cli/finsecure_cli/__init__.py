"""The command `finsecure`: it reaches the services over the wire or starts them as processes."""
