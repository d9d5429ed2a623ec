"""Managed keys: rings, keys, versions, their life, and what they are used for."""
