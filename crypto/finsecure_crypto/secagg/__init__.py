"""Secure aggregation: the active-adversary protocol of Bonawitz et al. (CCS 2017), without I/O.

`parameters` and `messages` are what both sides share, `client` and `server` are the two state
machines, `phases` is the one table of what may be said when. Nothing in here waits, logs, reads a
clock or knows the wire format; docs/protocols/secure-aggregation.md describes the whole.
"""
