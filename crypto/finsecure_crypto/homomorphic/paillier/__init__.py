"""Paillier's scheme: packed sums that are exact, with keys that exist as shares of trustees.

`modulus` is what anybody can compute, `blinding` makes encryption fast, and `plaintext_proof` shows
that a contributor knows what it encrypted. `key`, which opens as `threshold` says, and `share` are
the two sides of a threshold with the proofs of `proof`, `dealer` makes them, and `private_key` is a
whole key in one hand, for a bank's own data and for keys of other libraries.
docs/protocols/homomorphic.md has parameters, formulas and bytes.
"""

from finsecure_crypto.homomorphic.paillier.key import PaillierKey
from finsecure_crypto.homomorphic.paillier.key_format import parse_key
from finsecure_crypto.homomorphic.paillier.share import PaillierShare
from finsecure_crypto.secret import SecretBytes

__all__ = ["PaillierKey", "PaillierShare", "read_key", "read_share"]


def read_key(data: bytes) -> PaillierKey:
    """Reads and checks a public key, as `registry.load_key`.

    Raises:
        IntegrityError: `KEY_MALFORMED`; the sender's.
    """
    return PaillierKey(*parse_key(data))


def read_share(data: SecretBytes) -> PaillierShare:
    """Reads a trustee's share, as `registry.load_share`.

    Raises:
        IntegrityError: `KEY_MALFORMED`; the sender's.
    """
    return PaillierShare.read(data)
