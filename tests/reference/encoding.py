"""The packed encoding, value by value, with Python integers and floats.

A section is `("count", name, length, maximum)` or `("real", name, length, bound, value_bits)`.
"""

import math


def value_bits(section):
    return section[4] if section[0] == "real" else section[3].bit_length()


def lane_bits(section, cohort):
    return value_bits(section) + math.ceil(math.log2(cohort))


def quantise(value, bound, bits, noise):
    zero = 2 ** (bits - 1) - 1
    clipped = min(max(float(value), -bound), bound)
    rounded = math.floor(clipped * (zero / bound) + noise)
    return min(max(rounded, -zero), zero) + zero


def encode(sections, cohort, values, noise):
    """Returns the words; `noise` is an iterator of numbers in [0, 1), one for each real."""
    words = []
    for section in sections:
        width = lane_bits(section, cohort)
        lanes = 64 // width
        integers = []
        for value in values[section[1]]:
            if section[0] == "count":
                integers.append(int(value))
            else:
                integers.append(quantise(value, section[3], section[4], next(noise)))
        for start in range(0, len(integers), lanes):
            word = 0
            for lane, integer in enumerate(integers[start : start + lanes]):
                word += integer << (lane * width)
            words.append(word)
    return words


def decode_integers(sections, cohort, words, contributors):
    """Returns the integer sums, those of reals around zero."""
    decoded, words = {}, list(words)
    for section in sections:
        width = lane_bits(section, cohort)
        lanes = 64 // width
        integers = []
        while len(integers) < section[2]:
            word = words.pop(0)
            integers += [(word >> (lane * width)) % 2**width for lane in range(lanes)]
        integers = integers[: section[2]]
        if section[0] == "real":
            zero = 2 ** (section[4] - 1) - 1
            integers = [integer - contributors * zero for integer in integers]
        decoded[section[1]] = integers
    assert words == []
    return decoded
