"""The key service: who belongs to a federation, and the certificates that prove it."""
