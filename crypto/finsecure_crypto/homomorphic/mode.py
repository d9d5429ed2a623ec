"""The homomorphic schemes by their names in configurations and on the wire."""

from enum import Enum


class Mode(Enum):
    """A homomorphic scheme."""

    PAILLIER = "paillier"  # integers, packed side by side into a plaintext; exact
    BGV = "bgv"  # integers, one in a slot of a lattice ciphertext; exact
    CKKS = "ckks"  # reals, one in a slot of a lattice ciphertext; within an error bound
