"""Features: what columns can be, what is refused and how it is told, scaling, words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from hyperrec_core.features import FeaturesError, checked, of_categories, of_vectors, of_words

IDS = pa.chunked_array([["a", "b"], ["c", "d"]])
VECTORS: list[list[float] | None] = [[1.0, 2.0, 4.0], None, [3.0, 2.0, 0.0], [5.0, 2.0, 8.0]]


def column(values: list[Any], kind: pa.DataType) -> pa.ChunkedArray:
    """In two chunks, as files of several row groups have them."""
    return pa.chunked_array([pa.array(values[:2], kind), pa.array(values[2:], kind)])


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float32()),
        pa.list_(pa.float64()),
        pa.large_list(pa.float32()),
        pa.list_(pa.float32(), 3),
        pa.list_(pa.int64()),
        pa.list_(pa.float16()),
    ],
)
def test_lists_of_numbers_are_vectors(kind: pa.DataType) -> None:
    values: Any = VECTORS
    if pa.types.is_floating(kind.value_type) and kind.value_type == pa.float16():
        values = [None if v is None else [np.float16(x) for x in v] for v in VECTORS]
    if pa.types.is_integer(kind.value_type):
        values = [None if v is None else [int(x) for x in v] for v in VECTORS]
    found = checked(column(values, kind), IDS)
    assert found.type == pa.list_(pa.float32(), 3)
    assert found.to_pylist() == VECTORS


@pytest.mark.parametrize(
    ("values", "kind", "told"),
    [
        (["x", "y", "z", "w"], pa.string(), "it holds string and not a list of numbers an item"),
        ([["x"]] * 4, pa.list_(pa.string()), "not a list of numbers an item"),
        ([None] * 4, pa.list_(pa.float32()), "no item has a vector in it"),
        ([None, [], [1.0], [1.0]], pa.list_(pa.float32()), "the vector of item 'b' is empty"),
        (
            [[1.0, 2.0], None, [1.0, 2.0], [1.0]],
            pa.list_(pa.float32()),
            "the vector of item 'd' has 1 numbers and that of item 'a' has 2",
        ),
        (
            [None, [1.0, 2.0], [1.0, float("nan")], [1.0, 2.0]],
            pa.list_(pa.float32()),
            "number 2 of the vector of item 'c' is nan",
        ),
        (
            [[1.0, 2.0], [float("-inf"), 2.0], [1.0, 2.0], None],
            pa.list_(pa.float64()),
            "number 1 of the vector of item 'b' is -inf",
        ),
        (
            [[1.0, 2.0], [1.0, None], None, None],
            pa.list_(pa.float64()),
            "number 2 of the vector of item 'b' is None",
        ),
    ],
)
def test_what_is_no_vector_is_named(values: list[Any], kind: pa.DataType, told: str) -> None:
    with pytest.raises(FeaturesError, match=told):
        checked(column(values, kind), IDS)


def test_vectors_are_centred_and_of_length_one_and_an_item_without_is_the_average() -> None:
    array = checked(column(VECTORS, pa.list_(pa.float32())), IDS)
    found = of_vectors(array)
    assert found.dtype == np.float32
    middle = np.array([3.0, 2.0, 4.0])
    for row, vector in enumerate(VECTORS):
        if vector is None:
            assert (found[row] == 0).all()
        else:
            apart = np.array(vector) - middle
            np.testing.assert_allclose(found[row], apart / np.linalg.norm(apart), rtol=1e-6)
    # Of a slice, such as the trained items, too.
    np.testing.assert_array_equal(of_vectors(array.slice(1, 1)), np.zeros((1, 3)))


def test_the_size_of_an_encoders_numbers_does_not_matter() -> None:
    array = checked(
        column([[1e38, 0.0], [-1e38, 0.0], [0.0, 1e25], None], pa.list_(pa.float32())), IDS
    )
    np.testing.assert_allclose(of_vectors(array)[:2], [[1.0, 0.0], [-1.0, 0.0]], atol=1e-12)


def test_an_item_that_is_the_average_has_zeros() -> None:
    array = checked(column([[2.0], [2.0], [2.0], [2.0]], pa.list_(pa.float32())), IDS)
    np.testing.assert_array_equal(of_vectors(array), np.zeros((4, 1)))


def test_words_that_two_items_share_count_alike() -> None:
    found = of_words([["red", "silk"], ["red", "red"], [], ["silk", "red", "rare"]])
    half = 0.5**0.5
    np.testing.assert_allclose(found, [[half, half], [1, 0], [0, 0], [half, half]], rtol=1e-6)


def test_categories_count_by_every_level_of_their_path() -> None:
    paths = [("women", "coats"), ("women", "shoes"), ("men", "coats"), (), ("women", "coats")]
    found = of_categories(paths)
    assert found.shape == (5, 2)  # women, and women's coats: two or more items have them
    half = 0.5**0.5
    np.testing.assert_allclose(found, [[half, half], [1, 0], [0, 0], [0, 0], [half, half]])
