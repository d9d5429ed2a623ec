"""AES-128 as FIPS 197 writes it, and its counter mode as NIST SP 800-38A does."""


def _times(a, b):
    """Multiplies in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1."""
    result = 0
    while b:
        if b & 1:
            result ^= a
        a = (a << 1) ^ (0x11B if a & 0x80 else 0)
        b >>= 1
    return result


def _substitute(byte):
    inverse = next((x for x in range(256) if _times(byte, x) == 1), 0)
    result = 0x63
    for shift in range(5):
        result ^= ((inverse << shift) | (inverse >> (8 - shift))) & 0xFF
    return result


SBOX = [_substitute(byte) for byte in range(256)]
DOUBLE = [_times(byte, 2) for byte in range(256)]


def _round_keys(key):
    words = [list(key[i : i + 4]) for i in range(0, 16, 4)]
    constant = 1
    for i in range(4, 44):
        word = list(words[-1])
        if i % 4 == 0:
            word = [SBOX[byte] for byte in [*word[1:], word[0]]]
            word[0] ^= constant
            constant = DOUBLE[constant]
        words.append([a ^ b for a, b in zip(words[i - 4], word, strict=True)])
    return [[byte for word in words[i : i + 4] for byte in word] for i in range(0, 44, 4)]


def encrypt_block(key, block):
    """Encrypts one block of 16 bytes; the state is column by column, as in the standard."""
    keys = _round_keys(key)
    state = [a ^ b for a, b in zip(block, keys[0], strict=True)]
    for number in range(1, 11):
        state = [SBOX[byte] for byte in state]
        state = [state[(i + 4 * (i % 4)) % 16] for i in range(16)]  # ShiftRows
        if number < 10:
            mixed = []
            for column in range(0, 16, 4):
                a = state[column : column + 4]
                for i in range(4):
                    b, c, d = a[(i + 1) % 4], a[(i + 2) % 4], a[(i + 3) % 4]
                    mixed.append(DOUBLE[a[i]] ^ DOUBLE[b] ^ b ^ c ^ d)
            state = mixed
        state = [a ^ b for a, b in zip(state, keys[number], strict=True)]
    return bytes(state)


def counter_keystream(key, counter, blocks):
    """Encrypts `blocks` successive values of a 128-bit big-endian counter."""
    return b"".join(
        encrypt_block(key, ((counter + i) % 2**128).to_bytes(16, "big")) for i in range(blocks)
    )
