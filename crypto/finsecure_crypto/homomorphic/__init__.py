"""Sums under homomorphic encryption, opened by trustees that each hold a share of the key.

The second way to aggregate, beside the masks of `secagg`: a client sends one message and needs no
peer, and what a round costs is bytes and time instead of rounds. `mode` names the schemes, `scheme`
is the interface that all of them answer, `registry` reads keys of any of them, and `statements` has
what is signed. Each scheme stands in a module of its own, and only that module imports its library.
docs/protocols/homomorphic.md describes the whole.
"""
