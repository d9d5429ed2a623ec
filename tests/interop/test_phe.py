"""Keys and ciphertexts of phe are those of FinSecure, in both directions."""

import subprocess
import sys

import phe
import pytest
from finsecure_crypto.errors import IntegrityError
from finsecure_crypto.homomorphic.paillier.modulus import Modulus
from finsecure_crypto.homomorphic.paillier.private_key import PrivateKey

from examples.phe.exchange import to_bytes, to_phe
from tests.support.crypto import seeded
from tests.support.federation import ROOT
from tests.support.paillier import dealt, opened, private_key

VALUES = [0, 1, 2**31, 2**600]


@pytest.fixture(scope="module")
def theirs() -> phe.PaillierPrivateKey:
    """A key that phe made itself: its primes are not safe ones."""
    return phe.generate_paillier_keypair(n_length=2048)[1]


@pytest.mark.parametrize("bits", [2048, pytest.param(3072, marks=pytest.mark.slow)])
def test_trustees_open_ciphertexts_of_phe(bits: int) -> None:
    trust = dealt(bits)
    public = phe.PaillierPublicKey(n=int(trust.key.modulus.n))
    run = b"".join(to_bytes(public.encrypt(value), trust.key.modulus) for value in (5, 2**31))
    assert trust.key.check(run) == 2
    total = trust.key.add(run, trust.key.encrypt_integers([10, 1]))
    assert opened(trust, total, (1, 3)) == [15, 2**31 + 1]


def test_phe_decrypts_ours() -> None:
    private = private_key()
    public = phe.PaillierPublicKey(n=int(private.modulus.n))
    secret = phe.PaillierPrivateKey(public, *private.expose())
    size = private.modulus.ciphertext_bytes
    # Both ways to encrypt: with a table of powers, and as Paillier did.
    for run in (
        dealt(2048).key.encrypt_integers(VALUES),
        private.modulus.encrypt(VALUES, seeded("phe")),
    ):
        numbers = [to_phe(run[i : i + size], public) for i in range(0, len(run), size)]
        assert [secret.decrypt(number) for number in numbers] == VALUES
        assert secret.decrypt(numbers[1] + numbers[2] * 3) == 1 + 3 * 2**31


def test_we_decrypt_under_a_key_of_phe(theirs: phe.PaillierPrivateKey) -> None:
    private = PrivateKey.from_primes(int(theirs.p), int(theirs.q))
    modulus = Modulus.read(int(theirs.public_key.n))
    assert modulus == private.modulus
    run = b"".join(to_bytes(theirs.public_key.encrypt(value), modulus) for value in VALUES)
    assert private.decrypt(run) == VALUES
    assert private.decrypt(modulus.encrypt(VALUES, seeded("ours"))) == VALUES
    # phe writes -x as n - x.
    negative = to_bytes(theirs.public_key.encrypt(-7), modulus)
    assert private.decrypt(negative) == [int(modulus.n) - 7]


def test_a_float_of_phe_is_refused(theirs: phe.PaillierPrivateKey) -> None:
    with pytest.raises(ValueError, match="only integers"):
        to_bytes(theirs.public_key.encrypt(0.5), Modulus.read(int(theirs.public_key.n)))


def test_a_short_key_of_phe_is_refused() -> None:
    public, secret = phe.generate_paillier_keypair(n_length=1024)
    with pytest.raises(IntegrityError):
        Modulus.read(int(public.n))
    with pytest.raises(IntegrityError):
        PrivateKey.from_primes(int(secret.p), int(secret.q))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_example_runs() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "phe" / "exchange.py"],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert [line.rsplit(" ", 1)[1] for line in done.stdout.splitlines()] == ["4000", "2025", "42"]
