"""A round's inputs on the disk, its masks, and the sum that any back end has to find."""

from functools import cached_property

import numpy as np
from finsecure_crypto.masking import apply_masks
from finsecure_crypto.secret import SecretBytes


class Round:
    """Random inputs and masks of a fixed seed; `total` is summed in the plainest way."""

    def __init__(self, folder, words, inputs=3, masks=70, seed=0):
        rng = np.random.default_rng(seed)
        self.words, self.paths, self._plain = words, [], np.zeros(words, np.uint64)
        self.masks = [(SecretBytes(rng.bytes(16)), int(rng.choice((-1, 1)))) for _ in range(masks)]
        for number in range(inputs):
            vector = rng.integers(0, 2**64, words, np.uint64)
            self._plain += vector
            self.paths.append(folder / f"bank-{number}.words")
            self.paths[-1].write_bytes(vector.astype("<u8").tobytes())

    @cached_property
    def total(self):
        total = self._plain.copy()
        for key, sign in self.masks:
            mask = np.zeros(self.words, np.uint64)
            apply_masks(mask, [(key, +1)])
            total = total + mask if sign > 0 else total - mask
        return total

    def check(self, accumulator):
        for path in self.paths:
            accumulator.add_input(path)
        np.testing.assert_array_equal(accumulator.unmask(self.masks), self.total)
        accumulator.close()
