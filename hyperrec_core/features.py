"""What items are like, as one vector each: from a column of a catalogue, or from words about them.

Vectors of an encoder come as they are, each of the same length. They are centred on their mean, so
that what all items have in common does not count, and then scaled to length 1, whatever the encoder
measures in. Words (attributes, or the categories of a path) make a vector with a place for each,
equal where the item has the word, of length 1 as well.

An item without a vector, or without words, has zeros: nothing is known of it. Among centred vectors
that is the average item.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hyperrec_core.cold import Category


class FeaturesError(ValueError):
    """A column does not hold a vector an item; the message says which and what is wrong."""


def checked(column: pa.ChunkedArray, item_ids: pa.ChunkedArray) -> pa.FixedSizeListArray:
    """A column of vectors, all of the same length and finite.

    Args:
        column: a list of numbers an item, or null where an item has none, [n].
        item_ids: string [n].

    Returns:
        Fixed-size lists of float32, [n].

    Raises:
        FeaturesError: it holds no lists of numbers, vectors of no or of several lengths, or
            something that is no finite number.
    """
    kind = column.type
    if not (_is_list(kind) and _is_number(kind.value_type)):
        raise FeaturesError(f"it holds {kind} and not a list of numbers an item")
    lengths = pc.list_value_length(column).combine_chunks()
    given = np.flatnonzero(pc.is_valid(lengths).to_numpy(zero_copy_only=False))
    if not len(given):
        raise FeaturesError("no item has a vector in it")
    sizes = lengths.take(pa.array(given)).to_numpy()

    def item(place: int) -> str:
        return repr(item_ids[int(given[place])].as_py())

    size = int(sizes[0])
    if not size:
        raise FeaturesError(f"the vector of item {item(0)} is empty")
    if len(other := np.flatnonzero(sizes != size)):
        raise FeaturesError(
            f"the vector of item {item(other[0])} has {sizes[other[0]]} numbers and that of "
            f"item {item(0)} has {size}"
        )
    flat = pc.list_flatten(column).combine_chunks()
    values = pc.fill_null(flat.cast(pa.float32(), safe=False), float("nan")).to_numpy()
    if len(bad := np.flatnonzero(~np.isfinite(values))):
        place = int(bad[0])
        raise FeaturesError(
            f"number {place % size + 1} of the vector of item {item(place // size)} is "
            f"{flat[place].as_py()}"
        )
    vectors = np.zeros((len(column), size), np.float32)
    vectors[given] = values.reshape(-1, size)
    missing = np.ones(len(column), bool)
    missing[given] = False
    return pa.FixedSizeListArray.from_arrays(
        pa.array(vectors.ravel()), size, mask=pa.array(missing)
    )


def of_vectors(column: pa.FixedSizeListArray) -> NDArray[np.float32]:
    """Centred, and scaled to length 1; zeros where an item has none. [n, F]."""
    present = pc.is_valid(column).to_numpy(zero_copy_only=False)
    # In float64: a length is of squares, of which float32 knows none from 1e20 on.
    found = column.drop_null().flatten().to_numpy().astype(np.float64)
    found = found.reshape(-1, column.type.list_size)
    features = np.zeros((len(column), column.type.list_size), np.float32)
    if len(found):
        features[present] = _unit(found - found.mean(axis=0))
    return features


def of_words(words: Sequence[Sequence[Hashable]]) -> NDArray[np.float32]:
    """A place for each word that two items have; equal for all of an item's words. [n, F].

    A word that one item alone has would be a second point of its own, and is left out.
    """
    counts: dict[Hashable, int] = {}
    for own in words:
        for word in dict.fromkeys(own):
            counts[word] = counts.get(word, 0) + 1
    shared = [word for word, count in counts.items() if count > 1]
    place = {word: number for number, word in enumerate(shared)}
    features = np.zeros((len(words), len(shared)), np.float32)
    for row, own in enumerate(words):
        features[row, [place[word] for word in own if word in place]] = 1.0
    return _unit(features)


def of_categories(categories: Sequence[Category]) -> NDArray[np.float32]:
    """Each category of an item's path is a word: the widest, the one in it, and so on. [n, F]."""
    return of_words([[path[: n + 1] for n in range(len(path))] for path in categories])


def _unit(features: NDArray[Any]) -> NDArray[Any]:
    length = np.linalg.norm(features, axis=1, keepdims=True)
    unit: NDArray[Any] = np.divide(features, length, out=np.zeros_like(features), where=length > 0)
    return unit


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))
