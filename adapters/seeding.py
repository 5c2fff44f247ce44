"""Random numbers that belong to a row: the same seed draws the same, whatever the batch."""

from __future__ import annotations

import hashlib

import numpy as np

from adapters.base import Array


def generator_of(seed: int, row: Array) -> np.random.Generator:
    """The generator of `row` (time,) under `seed`.

    It depends on the observations too: the series of one request share a seed, and paths of all of them drawn with
    the same numbers would rise and fall together.
    """
    digest = hashlib.blake2b(np.ascontiguousarray(row).tobytes(), digest_size=16).digest()
    return np.random.default_rng([seed, int.from_bytes(digest, "little")])
