"""The tamper-evident log of every decision: nothing is done that is not in it."""
