"""Masks by the definition: all keystream first, then one addition a word."""

from tests.reference.aes import counter_keystream


def mask(key, words, first_word=0):
    """Returns words of one mask as integers, from word `first_word`."""
    stream = counter_keystream(key, first_word // 2, (words + 1) // 2)
    return [int.from_bytes(stream[8 * i : 8 * i + 8], "little") for i in range(words)]


def apply(vector, keys, first_word=0):
    """Returns the vector with the signed masks added modulo 2^64."""
    result = list(vector)
    for key, sign in keys:
        for i, word in enumerate(mask(key, len(result), first_word)):
            result[i] = (result[i] + sign * word) % 2**64
    return result
