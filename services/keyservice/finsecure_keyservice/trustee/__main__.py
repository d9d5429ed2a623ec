"""`python -m finsecure_keyservice.trustee`."""

from finsecure_keyservice.trustee.main import main

main()
