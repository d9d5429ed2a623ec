"""Keys and ciphertexts that FinSecure and python-paillier (phe) exchange, both ways.

    pip install 'finsecure[paillier,interop]'
    python examples/phe/exchange.py

A ciphertext of both is the same integer modulo n²; FinSecure writes it big-endian in exactly twice
the bytes of n. Integers only: phe gives floats an exponent of its own, which stays in clear beside
the ciphertext and has no place in a sum of many parties.
"""

import os

import phe
from finsecure_crypto.homomorphic.paillier.dealer import deal
from finsecure_crypto.homomorphic.paillier.modulus import Modulus
from finsecure_crypto.homomorphic.paillier.private_key import PrivateKey


def to_bytes(number: phe.EncryptedNumber, modulus: Modulus) -> bytes:
    """Writes a ciphertext of phe as FinSecure reads it."""
    if number.exponent != 0:
        raise ValueError("only integers travel: encrypt int(round(value * scale)), not the float")
    # ciphertext() blinds a number that was only computed with.
    return number.ciphertext().to_bytes(modulus.ciphertext_bytes, "big")


def to_phe(ciphertext: bytes, public: phe.PaillierPublicKey) -> phe.EncryptedNumber:
    """Makes a ciphertext of FinSecure one of phe."""
    return phe.EncryptedNumber(public, int.from_bytes(ciphertext, "big"), exponent=0)


def trustees_open_what_phe_encrypted() -> int:
    """A partner with phe alone contributes to a sum that two of three trustees open."""
    dealt = deal(2048)  # everything in one process, for show; see the warning of `dealer`
    key = dealt.key
    partner = phe.PaillierPublicKey(n=int(key.modulus.n))
    theirs = to_bytes(partner.encrypt(1200) * 3, key.modulus)
    ours = key.encrypt_integers([400])
    key.check(theirs)
    total = key.add(theirs, ours)
    context = os.urandom(32)
    partials = {s.holder: s.partial(key, total, context) for s in dealt.shares[:2]}
    return key.open_integers(total, partials, context)[0]


def phe_decrypts_what_finsecure_encrypted() -> int:
    """A key of FinSecure in the hands of phe."""
    private = PrivateKey.generate(2048)
    public = phe.PaillierPublicKey(n=int(private.modulus.n))
    number = to_phe(private.modulus.encrypt([2024], os.urandom), public)
    return int(phe.PaillierPrivateKey(public, *private.expose()).decrypt(number + 1))


def finsecure_decrypts_under_a_key_of_phe() -> int:
    """A key of phe in the hands of FinSecure."""
    public, secret = phe.generate_paillier_keypair(n_length=2048)
    private = PrivateKey.from_primes(int(secret.p), int(secret.q))
    theirs = to_bytes(public.encrypt(30), private.modulus)
    ours = Modulus.read(int(public.n)).encrypt([12], os.urandom)
    return private.decrypt(private.modulus.add(theirs, ours))[0]


if __name__ == "__main__":
    print("two trustees open 3·1200 of phe + 400 of FinSecure:", trustees_open_what_phe_encrypted())
    print("phe decrypts 2024 of FinSecure, plus 1:", phe_decrypts_what_finsecure_encrypted())
    print("FinSecure decrypts 30 of phe + 12:", finsecure_decrypts_under_a_key_of_phe())
