"""`python -m finsecure_aggregator`: the same as the command `finsecure-aggregator`."""

from finsecure_aggregator.main import main

main()
