"""One lattice mode on SEAL: its context, encryption, and the plaintext of an opened sum.

A cryptosystem is made once for each process, when the mode's module is imported, and everything
that the project takes for granted about SEAL is checked then: its release, the security of the
parameters, the layout of its bytes, and its arithmetic.
"""

from importlib.metadata import version
from typing import Any

import numpy as np
import seal
from numpy.typing import NDArray

from finsecure_crypto.errors import ConfigurationError, IntegrityError
from finsecure_crypto.homomorphic.lattice import seal_bytes
from finsecure_crypto.homomorphic.lattice.parameters import Parameters
from finsecure_crypto.homomorphic.lattice.ring import Ring
from finsecure_crypto.homomorphic.lattice.seal_bytes import Residues
from finsecure_crypto.homomorphic.mode import Mode

_RELEASE = "4.4.0"
_SCHEMES = {Mode.BGV: seal.scheme_type.bgv, Mode.CKKS: seal.scheme_type.ckks}


class Cryptosystem:
    """A mode's parameters, ready for use.

    Attributes:
        parameters: what it was made of.
        ring: of ciphertexts.
        key_ring: of keys.
        parms_id: SEAL's name for the parameters of a ciphertext.
        key_parms_id: SEAL's name for those of a key.

    Raises:
        ConfigurationError: `SEAL_RELEASE`, `SEAL_SECURITY` or `SEAL_LAYOUT` where SEAL is not what
            the project was made for; the installation's.
    """

    def __init__(self, parameters: Parameters) -> None:
        if version("seal-python") != _RELEASE:
            raise ConfigurationError(
                "SEAL_RELEASE", f"install seal-python=={_RELEASE}, on whose byte forms this relies"
            )
        self.parameters = parameters
        self.ring = Ring(parameters.degree, parameters.ciphertext_primes)
        self.key_ring = Ring(parameters.degree, parameters.primes)
        self._context = _context(parameters)
        self.parms_id = self._context.first_parms_id()
        self.key_parms_id = self._context.key_context_data().parms_id()
        # A sum is opened by adding to its first part alone, so any secret key reads it.
        keys = seal.KeyGenerator(self._context)
        self._decryptor = seal.Decryptor(self._context, keys.secret_key())
        self._slots = _Integers(self) if parameters.mode is Mode.BGV else _Reals(self)
        self._check(keys.create_public_key())

    @property
    def context(self) -> seal.SEALContext:
        """SEAL's context of the parameters."""
        return self._context

    def encryptor(self, public_key: Residues) -> seal.Encryptor:
        """Makes what encrypts under a public key (b, a), shape (2, primes of a key, N)."""
        data = seal_bytes.ciphertext(self.key_parms_id, public_key, 1.0)
        return seal.Encryptor(self._context, self._context.from_public_str(data))

    def encrypt(self, encryptor: seal.Encryptor, values: NDArray[np.generic]) -> Residues:
        """Encrypts N values: uint64 below t in BGV, float64 in CKKS.

        SEAL draws the randomness itself, from the operating system.

        Returns:
            uint64, shape (2, primes, N).
        """
        encrypted = encryptor.encrypt(self._slots.encode(values))
        return self.residues(encrypted.to_string())

    def residues(self, data: bytes, minor: int = seal_bytes.MINOR) -> Residues:
        """Reads a fresh ciphertext in SEAL's form, shape (2, primes, N).

        Raises:
            IntegrityError: `SEAL_FORMAT`, as `seal_bytes.residues`.
        """
        shape = (2, len(self.ring.primes), self.parameters.degree)
        return seal_bytes.residues(data, self.parms_id, shape, self.parameters.scale, minor=minor)

    def read(self, opened: Residues) -> NDArray[np.generic]:
        """Reads the N values of an opened ciphertext: c0 + c1·s as values, shape (primes, N).

        Returns:
            uint64 below t in BGV, float64 in CKKS.
        """
        return self._slots.decode(opened)

    def decrypt(self, opened: Residues) -> seal.Plaintext:
        """Takes the noise off an opened ciphertext."""
        parts = np.stack([opened, np.zeros_like(opened)])
        carrier = seal.Ciphertext()
        carrier.load_bytes(
            self._context, seal_bytes.ciphertext(self.parms_id, parts, self.parameters.scale)
        )
        return self._decryptor.decrypt(carrier)

    def _check(self, public_key: seal.PublicKey) -> None:
        """Encrypts and reads back, with bytes of ours at every step."""
        degree, factor = self.parameters.degree, self.parameters.noise_factor
        values = np.arange(degree)
        given = values.astype(np.uint64) % factor if factor > 1 else values / degree
        shape = (2, len(self.key_ring.primes), degree)
        try:
            parts = seal_bytes.residues(public_key.to_string(), self.key_parms_id, shape, 1.0)
            encrypted = self.encrypt(self.encryptor(parts), given)
            data = seal_bytes.ciphertext(self.parms_id, encrypted, self.parameters.scale)
            carrier = seal.Ciphertext()
            carrier.load_bytes(self._context, data)
            intact = carrier.to_string() == data
            # X · X^(N-1) = -1 tells the arithmetic and the order of its values.
            powers = np.zeros((2, degree), np.int64)
            powers[0, 1] = powers[1, degree - 1] = 1
            first, second = self.ring.forward(self.ring.reduce(powers))
            product = self.ring.inverse(self.ring.multiply(first[None], second))
            expected = np.zeros((1, degree), np.int64)
            expected[0, 0] = -1
            sound = np.array_equal(self.ring.centre(product)[:, 0], expected)
        except (IntegrityError, RuntimeError, ValueError) as error:
            raise _unexpected() from error
        if not (intact and sound):
            raise _unexpected()


class _Integers:
    """One integer modulo t in each slot."""

    def __init__(self, system: Cryptosystem) -> None:
        self._system = system
        self._encoder = seal.BatchEncoder(system.context)

    def encode(self, values: NDArray[Any]) -> seal.Plaintext:
        return self._encoder.encode(values)

    def decode(self, opened: Residues) -> NDArray[np.uint64]:
        values: NDArray[np.uint64] = self._encoder.decode_uint64(self._system.decrypt(opened))
        return values


class _Reals:
    """Two reals in each of N/2 complex slots: re + X^(N/2)·im, the first N/2 values and the others.

    In slot k X^(N/2) has the value i^(3^k), so i and -i take turns.
    """

    def __init__(self, system: Cryptosystem) -> None:
        self._system = system
        self._encoder = seal.CKKSEncoder(system.context)
        self._turns = np.resize([1.0, -1.0], system.parameters.degree // 2)

    def encode(self, values: NDArray[Any]) -> seal.Plaintext:
        half = self._turns.size
        slots = values[:half] + 1j * (self._turns * values[half:])
        return self._encoder.encode_complex(slots, self._system.parameters.scale)

    def decode(self, opened: Residues) -> NDArray[np.float64]:
        slots = self._encoder.decode_complex(self._system.decrypt(opened))
        return np.concatenate([slots.real, self._turns * slots.imag])


def _context(parameters: Parameters) -> seal.SEALContext:
    described = seal.EncryptionParameters(_SCHEMES[parameters.mode])
    described.set_poly_modulus_degree(parameters.degree)
    described.set_coeff_modulus([seal.Modulus(prime) for prime in parameters.primes])
    if parameters.mode is Mode.BGV:
        described.set_plain_modulus(parameters.noise_factor)
    context = seal.SEALContext(described, True, seal.sec_level_type.tc128)
    if not context.parameters_set():
        raise ConfigurationError(
            "SEAL_SECURITY",
            f"SEAL refuses the parameters of {parameters.mode.value} at 128 bits of security: "
            f"{context.parameter_error_message()}; install seal-python=={_RELEASE}",
        )
    return context


def _unexpected() -> ConfigurationError:
    return ConfigurationError(
        "SEAL_LAYOUT",
        f"SEAL's bytes or arithmetic are not those of seal-python {_RELEASE}; install that release",
    )
