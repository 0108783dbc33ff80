"""Items as documents: nothing is lost, nothing the service refuses gets out."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serving_export.documents import (
    Item,
    checksum,
    decode_id,
    encode_id,
    from_document,
    to_document,
)
from serving_export.errors import ExportError

ANY_TEXT = st.text(min_size=1, max_size=255)
ANY_FLOAT = st.floats(width=32, allow_nan=False, allow_infinity=False)
VECTORS = hnp.arrays(np.float32, st.integers(1, 8), elements=ANY_FLOAT)


def item(item_id: str = "a", vector: list[float] | None = None, **rest: object) -> Item:
    values = np.array(vector or [1.0, 2.0], dtype=np.float32)
    return Item(item_id=item_id, vector=values, context=None, count=1, **rest)  # type: ignore[arg-type]


@given(ANY_TEXT)
@example("a/b\\c?d#e%f~g")
@example("..")
@example(" ")
@example("a.\n")
@example("\x00" * 255)
@example("\x85" * 255)
@example("🧶" * 255)
@example("'; DROP TABLE c; --")
def test_any_id_of_255_characters_has_a_reversible_document_id(item_id: str) -> None:
    encoded = encode_id(item_id)
    assert decode_id(encoded) == item_id
    assert not set(encoded) & {"/", "\\", "?", "#", "%"}
    assert all(ord(character) >= 32 for character in encoded)
    assert encoded == encoded.strip(" .")
    assert 1 <= len(encoded.encode()) <= 1023


@given(ANY_TEXT, ANY_TEXT)
def test_different_ids_have_different_document_ids(one: str, other: str) -> None:
    assert (encode_id(one) == encode_id(other)) == (one == other)


def test_the_escape_itself_is_escaped() -> None:
    assert encode_id("~2f") != encode_id("/")


@pytest.mark.parametrize("item_id", ["", "\ud800", "x" * 1024, "/" * 342])
def test_an_id_that_cannot_be_stored_is_refused_with_a_sentence(item_id: str) -> None:
    with pytest.raises(ExportError, match="correct it at the source"):
        encode_id(item_id)


@given(VECTORS)
@example(np.array([0.1, 1e-45, 3.4028235e38, -1.17549435e-38, 16777216, 1 / 3], dtype=np.float32))
def test_vectors_come_back_bit_for_bit_through_json(vector: np.ndarray) -> None:
    sent = Item("a", vector, vector[::-1].copy(), 1)
    got = from_document(json.loads(json.dumps(to_document(sent, "v1"))))
    assert got.vector.tobytes() == (vector + np.float32(0)).tobytes()
    assert got == sent


def test_every_digit_written_is_needed() -> None:
    document = to_document(item(vector=[0.1, 2.5, 1e-7]), "v1")
    assert json.dumps(document["vector"]) == "[0.1, 2.5, 1e-07]"


def test_negative_zero_is_zero() -> None:
    assert not np.signbit(item(vector=[-0.0, 1.0]).vector[0])


@given(
    title=st.none() | st.text(max_size=5),
    category=st.lists(st.text(max_size=5), max_size=3),
    is_live=st.booleans(),
    count=st.integers(0, 2**40),
    similar=st.lists(st.tuples(ANY_TEXT, st.floats(allow_nan=False, allow_infinity=False))),
)
def test_every_field_comes_back(
    title: str | None,
    category: list[str],
    is_live: bool,
    count: int,
    similar: list[tuple[str, float]],
) -> None:
    sent = replace(
        item(),
        title=title,
        category=tuple(category),
        is_live=is_live,
        count=count,
        similar=tuple(similar),
    )
    document = json.loads(json.dumps(to_document(sent, "v1")))
    assert from_document(document) == sent
    assert document["version"] == "v1"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ExportError, match="'a' has a vector that is not finite"):
        item(vector=[1.0, bad])
    with pytest.raises(ExportError, match="no finite score"):
        item(similar=(("b", bad),))


@pytest.mark.parametrize(
    "vector",
    [np.ones(3), np.ones((1, 3), np.float32), np.ones(0, np.float32)],
    ids=["float64", "matrix", "empty"],
)
def test_a_vector_of_another_kind_is_refused(vector: np.ndarray) -> None:
    with pytest.raises(ExportError, match="one row of float32"):
        Item("a", vector, None, 1)


def test_vector_and_context_must_agree() -> None:
    with pytest.raises(ExportError, match="3 numbers and a context of 2"):
        Item("a", np.ones(3, np.float32), np.ones(2, np.float32), 1)


def test_items_that_differ_in_one_bit_are_different() -> None:
    one, other = np.float32(1.0), np.nextafter(np.float32(1.0), np.float32(2.0))
    assert item(vector=[one]) != item(vector=[other])
    assert checksum([item(vector=[one])]) != checksum([item(vector=[other])])


def test_checksum_does_not_depend_on_the_order() -> None:
    items = [item(str(n), [float(n)]) for n in range(20)]
    shuffled = random.Random(1).sample(items, len(items))
    assert checksum(items) == checksum(shuffled)


def test_checksum_tells_vectors_contexts_and_ids_apart() -> None:
    one = np.array([1.0], dtype=np.float32)
    kinds = [
        [item("ab", [1.0])],
        [item("a", [1.0])],
        [item("a", [1.0]), item("b", [1.0])],
        [Item("ab", one, one, 1)],
        [item("ab", [1.0, 1.0])],
    ]
    assert len({checksum(items) for items in kinds}) == len(kinds)


@pytest.mark.parametrize(
    "change", [{"vector": "x"}, {"vector": [None]}, {"count": None}, {"similar": [1]}]
)
def test_a_document_that_is_no_item_is_refused_by_its_id(change: dict[str, object]) -> None:
    with pytest.raises(ExportError, match="'a'"):
        from_document(to_document(item(), "v1") | change)
