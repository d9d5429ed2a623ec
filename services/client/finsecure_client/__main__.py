"""`python -m finsecure_client`: the same as the command `finsecure-client`."""

from finsecure_client.main import main

main()
