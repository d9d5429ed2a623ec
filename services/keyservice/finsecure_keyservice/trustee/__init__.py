"""The trustee: a process of its own that holds one share of each decryption key.

It stands beside the key service in this package because both keep keys, but shares neither
database, identity nor process with it.
"""
