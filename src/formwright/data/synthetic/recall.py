"""A key and its value among noise, and the key again at the end: what was the value?"""

from __future__ import annotations

import numpy as np

from formwright.data.synthetic.sequences import LabelledSequences
from formwright.errors import UserError


def key_recall(
    count: int, length: int, *, keys: int = 8, values: int = 8, pairs: int = 4, noise: int = 16, seed: int = 0
) -> LabelledSequences:
    """Rows of noise with ``pairs`` different keys, each followed by its value; the last id asks for one of them.

    Keys, values and noise have ids of their own, ``keys`` first. Each pair stands in a stretch of its own of the row.

    Args:
        count: number of rows.
        length: ids of a row.
        keys: number of different keys.
        values: number of different values: the classes.
        pairs: how many keys stand in a row.
        noise: number of different ids of noise.
        seed: decides all.

    Raises:
        UserError: the row is too short for its pairs, or there are more pairs than keys.
    """
    stretch = (length - 1) // max(pairs, 1)
    if pairs < 1 or pairs > keys or stretch < 2:
        raise UserError(
            f"{pairs} pairs of a key and a value were asked for in {length} ids with {keys} keys; 1 to {keys} fit, "
            "with 2 ids each and one to ask."
        )
    random = np.random.default_rng(seed)
    ids = random.integers(keys + values, keys + values + noise, size=(count, length))
    chosen = random.permuted(np.broadcast_to(np.arange(keys), (count, keys)), axis=1)[:, :pairs]
    value = random.integers(values, size=(count, pairs))
    place = np.arange(pairs) * stretch + random.integers(stretch - 1, size=(count, pairs))
    rows = np.arange(count)[:, None]
    ids[rows, place] = chosen
    ids[rows, place + 1] = keys + value
    asked = random.integers(pairs, size=count)
    ids[:, -1] = chosen[rows[:, 0], asked]
    labels = value[rows[:, 0], asked]
    source = f"{pairs} of {keys} keys in {length} ids"
    return LabelledSequences(ids.astype(np.int16), labels, keys + values + noise, values, None, source)
