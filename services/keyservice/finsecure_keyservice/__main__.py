"""`python -m finsecure_keyservice`: the same as the command `finsecure-keyservice`."""

from finsecure_keyservice.main import main

main()
