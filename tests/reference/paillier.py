"""Paillier with shares, as the papers write it: plain integers, one at a time, no tables.

Paillier 1999; Damgård, Jurik and Nielsen 2010 (blinding); Damgård and Jurik 2001 (threshold);
Chaum and Pedersen 1992 (proofs of partials), Schnorr 1991 (proofs of plaintexts).
docs/protocols/homomorphic.md has the same formulas.
"""

import hashlib
import math
import struct

from tests.reference import transcript


def derive(bound, label, data):
    size = (bound.bit_length() + 7) // 8 + 16
    stream = hashlib.shake_256(transcript.encode(label, data)).digest(size)
    return int.from_bytes(stream, "big") % bound


def octets(value, size):
    return value.to_bytes(size, "big")


def number(data):
    return int.from_bytes(data, "big")


def size_of(n):
    return n.bit_length() // 8


def blinding_base(n):
    """Returns h_s."""
    x = derive(n, "paillier-blinding-base", octets(n, size_of(n)))
    return pow(-x * x % n, n, n * n)


def verification_base(n):
    """Returns v."""
    y = derive(n * n, "paillier-verification-base", octets(n, size_of(n)))
    return y * y % (n * n)


def uniform(randomness, bound):
    bits = (bound - 1).bit_length()
    while True:
        drawn = number(randomness((bits + 7) // 8)) % 2**bits
        if drawn < bound:
            return drawn


def exponent(randomness, digits, window):
    """Reads one blinding exponent: the low bits of little-endian uint16, lowest digit first."""
    data = randomness(2 * digits)
    drawn = struct.unpack(f"<{digits}H", data)
    return sum((digit % 2**window) << (window * i) for i, digit in enumerate(drawn))


def encrypt(n, plaintext, power):
    return (1 + n * plaintext) * pow(blinding_base(n), power, n * n) % (n * n)


def decrypt(p, q, ciphertext):
    n, order = p * q, math.lcm(p - 1, q - 1)
    quotient, rest = divmod(pow(ciphertext, order, n * n) - 1, n)
    assert rest == 0
    return quotient * pow(order, -1, n) % n


def deal(p, q, holders, threshold, randomness):
    """Returns the holders' secrets s_1, s_2, … of safe primes p and q."""
    n, order = p * q, (p - 1) // 2 * ((q - 1) // 2)
    secret = order * pow(order, -1, n)
    assert secret % order == 0
    assert secret % n == 1
    coefficients = [secret] + [uniform(randomness, n * order) for _ in range(threshold - 1)]
    return [
        sum(c * point**k for k, c in enumerate(coefficients)) % (n * order)
        for point in range(1, holders + 1)
    ]


def public_key(n, holders, threshold, exponent_bits, secrets):
    delta, size = math.factorial(holders), size_of(n)
    data = b"FSPAILK1" + struct.pack(">HBBH", n.bit_length(), holders, threshold, exponent_bits)
    data += octets(n, size)
    for secret in secrets:
        data += octets(pow(verification_base(n), delta * secret, n * n), 2 * size)
    return data


def key_digest(key):
    return transcript.digest("encryption-key", "paillier", key)


def share(key, holder, secret):
    size = int.from_bytes(key[8:10], "big") // 4
    return b"FSPAILS1" + bytes([holder]) + key_digest(key) + octets(secret, size)


def partial(n, holders, key, holder, secret, ciphertexts, context, randomness):
    """Returns one holder's partial decryption of a list of ciphertexts, with its proof."""
    square, size, delta = n * n, 2 * size_of(n), math.factorial(holders)
    powers = [pow(c, 2 * delta * secret, square) for c in ciphertexts]
    run = b"".join(octets(c, size) for c in ciphertexts)
    written = b"".join(octets(p, size) for p in powers)
    seed = transcript.digest("paillier-partials", key_digest(key), holder, context, run, written)
    bits = nonce_bits(n, delta)
    nonce = 1 + number(randomness((bits - 1 + 7) // 8)) % 2 ** (bits - 1)
    ciphertext, _ = batch(square, seed, ciphertexts, powers)
    commitments = pow(verification_base(n), nonce, square), pow(ciphertext, nonce, square)
    challenge = transcript.digest("paillier-partial", seed, *(octets(c, size) for c in commitments))
    response = nonce + number(challenge) * delta * secret
    return written + challenge + octets(response, (bits + 1 + 7) // 8)


def nonce_bits(n, delta):
    return 2 * n.bit_length() + delta.bit_length() + 256 + 128


def batch(square, seed, ciphertexts, powers):
    count = len(ciphertexts)
    stream = hashlib.shake_256(transcript.encode("paillier-batch-weights", seed)).digest(16 * count)
    one, other = 1, 1
    for i in range(count):
        weight = number(stream[16 * i : 16 * i + 16])
        one = one * pow(ciphertexts[i], weight, square) % square
        other = other * pow(powers[i], weight, square) % square
    return pow(one, 4, square), pow(other, 2, square)


def proof_holds(n, key, holder, ciphertexts, context, data):
    """Tells whether a partial decryption of the right length is proven."""
    square, size = n * n, 2 * size_of(n)
    end = size * len(ciphertexts)
    written, challenge, response = data[:end], data[end : end + 32], number(data[end + 32 :])
    powers = [number(written[i : i + size]) for i in range(0, end, size)]
    if any(not 0 < p < square or math.gcd(p, n) != 1 for p in powers):
        return False
    run = b"".join(octets(c, size) for c in ciphertexts)
    seed = transcript.digest("paillier-partials", key_digest(key), holder, context, run, written)
    ciphertext, power = batch(square, seed, ciphertexts, powers)
    offset = 14 + size // 2 + size * (holder - 1)
    own = number(key[offset : offset + size])
    e = number(challenge)
    first = pow(verification_base(n), response, square) * pow(own, -e, square) % square
    second = pow(ciphertext, response, square) * pow(power, -e, square) % square
    expected = transcript.digest(
        "paillier-partial", seed, octets(first, size), octets(second, size)
    )
    return challenge == expected


def plaintext_proof(n, key, ciphertexts, plaintexts, exponents, binding, randomness):
    """Proves that whoever encrypted the plaintexts with these exponents knows them."""
    square, size, bits = n * n, size_of(n), plaintext_nonce_bits(key)
    plaintext = uniform(randomness, n)
    exponent = 1 + number(randomness((bits + 7) // 8)) % 2**bits
    commitment = (1 + n * plaintext) * pow(blinding_base(n), exponent, square) % square
    seed = plaintext_seed(n, key, ciphertexts, binding, commitment)
    for e, m, a in zip(challenges(seed, len(plaintexts)), plaintexts, exponents, strict=True):
        plaintext += e * m
        exponent += e * a
    return seed + octets(plaintext % n, size) + octets(exponent, (bits + 1 + 7) // 8)


def plaintext_proof_holds(n, key, ciphertexts, binding, data):
    """Tells whether a proof of the right length is one of these ciphertexts and this binding."""
    square, end, bits = n * n, 32 + size_of(n), plaintext_nonce_bits(key)
    seed, plaintext, exponent = data[:32], number(data[32:end]), number(data[end:])
    if plaintext >= n or exponent >= 2 ** (bits + 1):
        return False
    commitment = (1 + n * plaintext) * pow(blinding_base(n), exponent, square) % square
    for c, e in zip(ciphertexts, challenges(seed, len(ciphertexts)), strict=True):
        commitment = commitment * pow(c, -e, square) % square
    return seed == plaintext_seed(n, key, ciphertexts, binding, commitment)


def plaintext_seed(n, key, ciphertexts, binding, commitment):
    size = 2 * size_of(n)
    run = b"".join(octets(c, size) for c in ciphertexts)
    sha256 = hashlib.sha256(run).digest()
    return transcript.digest(
        "paillier-plaintexts", key_digest(key), binding, sha256, octets(commitment, size)
    )


def challenges(seed, count):
    found = []
    for index in range(count):
        data = transcript.encode("paillier-plaintext-challenges", seed, index // 256)
        block = hashlib.shake_256(data).digest(16 * 256)
        found.append(number(block[16 * (index % 256) :][:16]))
    return found


def plaintext_nonce_bits(key):
    (exponent_bits,) = struct.unpack(">H", key[12:14])
    return exponent_bits + 16 + 128 + 32 + 128


def combine(n, holders, powers):
    """Opens one ciphertext with its partials by holder."""
    delta, square = math.factorial(holders), n * n
    result = 1
    for i, power in powers.items():
        above = delta * math.prod(j for j in powers if j != i)
        below = math.prod(j - i for j in powers if j != i)
        assert above % below == 0
        result = result * pow(power, 2 * (above // below), square) % square
    quotient, rest = divmod(result - 1, n)
    assert rest == 0
    return quotient * pow(4 * delta * delta, -1, n) % n


def pack(words, width):
    """Packs uint64 words, `width` to a plaintext, the first in the lowest bits."""
    return [
        sum(word << (64 * i) for i, word in enumerate(words[start : start + width]))
        for start in range(0, len(words), width)
    ]
