"""One item as a Cosmos DB document and back, without losing a bit.

Vectors are float32. In JSON each number stands as the shortest decimal that reads back to the same
float32, which is also the fewest bytes to pay for. The service keeps numbers as float64, of which
such a decimal is always one, so what comes back is equal bit for bit. The one exception is made
on the way in: -0.0 becomes 0.0, because JSON stores do not all keep the sign of zero.
"""

from __future__ import annotations

import hashlib
import math
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving_export.errors import ExportError

MOST_ID_BYTES = 1023

# Refused by the service: / \ ? # and control characters. Escaped too: the escape sign itself; %,
# which some gateways decode twice; and a space or full stop at either end, which URL handling on
# the way may drop.
_ESCAPED = re.compile(r"[/\\?#%~\x00-\x1f\x7f-\x9f]|\A[ .]|[ .]\Z")
_ESCAPE = re.compile(r"~([0-9a-f]{2})")


def encode_id(item_id: str) -> str:
    """The document id of an item: its own id, with `~` and two hex digits for what is forbidden.

    Args:
        item_id: any text; 255 characters always fit.

    Raises:
        ExportError: empty, not valid unicode, or over 1,023 bytes once encoded.
    """
    encoded = _ESCAPED.sub(lambda found: f"~{ord(found.group()):02x}", item_id)
    try:
        size = len(encoded.encode("utf-8"))
    except UnicodeEncodeError:
        raise ExportError(
            f"Item id {item_id!r} holds half of a surrogate pair and cannot be stored; "
            "correct it at the source."
        ) from None
    if not 1 <= size <= MOST_ID_BYTES:
        raise ExportError(
            f"Item id {item_id[:40]!r} takes {size} bytes as a document id and Cosmos DB allows "
            f"1 to {MOST_ID_BYTES}; correct it at the source."
        )
    return encoded


def decode_id(document_id: str) -> str:
    """The item id behind a document id made by `encode_id`."""
    return _ESCAPE.sub(lambda found: chr(int(found.group(1), 16)), document_id)


@dataclass(frozen=True, eq=False)
class Item:
    """An item of a version, checked at construction.

    Attributes:
        item_id: the retailer's own id.
        vector: float32 [d+1], the item vector for maximum inner product search; for the
            hyperboloid the target point with its time coordinate, the first, negated.
        context: float32 [d+1], the same of the context table; None when there is one table.
        count: interactions in training, for popularity.
        category: path in the catalogue, widest first.
        is_live: whether it may be recommended.
        title: what to show, when known.
        similar: the nearest live items with their scores, best first; may be empty.

    Raises:
        ExportError: an id that cannot be stored, or a vector that is not finite float32.
    """

    item_id: str
    vector: NDArray[np.float32]
    context: NDArray[np.float32] | None
    count: int
    category: tuple[str, ...] = ()
    is_live: bool = True
    title: str | None = None
    similar: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        encode_id(self.item_id)
        object.__setattr__(self, "vector", self._checked("vector", self.vector))
        if self.context is not None:
            object.__setattr__(self, "context", self._checked("context", self.context))
            if self.context.shape != self.vector.shape:
                raise ExportError(
                    f"Item {self.item_id!r} has a vector of {self.vector.size} numbers and a "
                    f"context of {self.context.size}; both must be of the model's dimension."
                )
        if not all(math.isfinite(score) for _, score in self.similar):
            raise ExportError(f"Item {self.item_id!r} has a similar item with no finite score.")

    def _checked(self, name: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
        if values.dtype != np.float32 or values.ndim != 1 or not values.size:
            raise ExportError(
                f"Item {self.item_id!r} has a {name} of dtype {values.dtype} and shape "
                f"{values.shape}; one row of float32 is needed."
            )
        if not np.isfinite(values).all():
            raise ExportError(
                f"Item {self.item_id!r} has a {name} that is not finite; the model must be "
                "trained again before it can be published."
            )
        kept = values + np.float32(0)  # a copy, and 0.0 where there was -0.0
        kept.setflags(write=False)
        return kept

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Item) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash((self.item_id, self.vector.tobytes()))

    def _key(self) -> tuple[object, ...]:
        context = None if self.context is None else self.context.tobytes()
        facts = (self.count, self.category, self.is_live, self.title, self.similar)
        return (self.item_id, self.vector.tobytes(), context, facts)


def to_document(item: Item, version: str) -> dict[str, Any]:
    """The document of an item; what is None or empty is left out.

    Args:
        item: the item.
        version: the version it belongs to, by which readers recognise it.
    """
    document: dict[str, Any] = {
        "id": encode_id(item.item_id),
        "item_id": item.item_id,
        "version": version,
        "vector": _shortest(item.vector),
        "count": item.count,
        "category": list(item.category),
        "is_live": item.is_live,
    }
    if item.context is not None:
        document["context"] = _shortest(item.context)
    if item.title is not None:
        document["title"] = item.title
    if item.similar:
        document["similar"] = [{"item_id": i, "score": float(s)} for i, s in item.similar]
    return document


def from_document(document: Mapping[str, Any]) -> Item:
    """The item of a document.

    Raises:
        ExportError: the document lacks a field or holds what no item can.
    """
    try:
        context = document.get("context")
        return Item(
            item_id=document["item_id"],
            vector=np.array(document["vector"], dtype=np.float32),
            context=None if context is None else np.array(context, dtype=np.float32),
            count=int(document["count"]),
            category=tuple(document["category"]),
            is_live=bool(document["is_live"]),
            title=document.get("title"),
            similar=tuple(
                (near["item_id"], float(near["score"])) for near in document.get("similar", ())
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ExportError(
            f"Document {document.get('id')!r} is not an item ({type(error).__name__}: {error}); "
            "publish the version again."
        ) from error


def checksum(items: Iterable[Item]) -> str:
    """The sha256 of a version's ids and vectors, whatever the order of its items.

    Over the items sorted by item id (by code point): the id's UTF-8 length (4 bytes, little
    endian) and bytes, the number of coordinates and of context coordinates (4 bytes each), and the
    coordinates as little-endian float32.
    """
    digest = hashlib.sha256()
    for item in sorted(items, key=lambda item: item.item_id):
        name = item.item_id.encode("utf-8")
        context = b"" if item.context is None else item.context.astype("<f4").tobytes()
        digest.update(struct.pack("<I", len(name)))
        digest.update(name)
        digest.update(struct.pack("<II", item.vector.size, len(context) // 4))
        digest.update(item.vector.astype("<f4").tobytes())
        digest.update(context)
    return digest.hexdigest()


def _shortest(values: NDArray[np.float32]) -> list[float]:
    # str of a NumPy float32 is its shortest decimal; as float64 it is written with the same digits.
    decimals = [float(str(value)) for value in values]
    if np.array_equal(np.array(decimals, dtype=np.float32), values):
        return decimals
    # A decimal within a float64's rounding of the middle between two float32 may fall to the wrong
    # one when read by way of float64; then every digit is written.
    exact: list[float] = values.astype(np.float64).tolist()
    return exact
