"""A folder of images, one an item, as a file of features for the catalogue."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np
import pyarrow as pa

from hyperrec_core.fit import best_device
from hyperrec_core.images import Encoder, EncoderError
from pipelines.errors import PipelineError, UsageError
from pipelines.importing.parts import parquet_bytes
from pipelines.progress import bar
from pipelines.storage import Storage, write_if_changed

log = logging.getLogger(__name__)

BLOB: Final = "items/features.parquet"
COLUMN: Final = "features"

SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"})

_AT_ONCE = 32  # images that the encoder sees together


@dataclass(frozen=True)
class EncodedReport:
    """What came of it: items with a vector, its length, and the names of images unread."""

    items: int
    size: int
    unread: Sequence[str]


def encode_images(
    source: Storage, target: Storage, *, encoder: str, weights: Path | None
) -> EncodedReport:
    """Write a vector for every image, of the item that its file is named after.

    Args:
        source: images by name: `ITEM_ID.jpg`, in any folder.
        target: the raw layout, where `BLOB` is written.
        encoder: a classifier of torchvision.
        weights: a safetensors file of its parameters; by default torchvision's own.

    Raises:
        UsageError: no image, two for an item, or no such encoder.
        PipelineError: none of the images can be read.
    """
    names = _names(source)
    try:
        network = Encoder(encoder, weights=weights, device=best_device())
    except EncoderError as error:
        raise UsageError(str(error)) from error
    ids, parts, unread = [], [], []
    with bar("encoding") as move:
        left = iter(names.items())
        while some := list(islice(left, _AT_ONCE)):
            tensors = []
            for item_id, name in some:
                try:
                    tensors.append(network.prepared(source.read(name)))
                except OSError as error:
                    log.warning("%s is no image that can be read: %s", name, error)
                    unread.append(name)
                else:
                    ids.append(item_id)
            if tensors:
                parts.append(network.encode(tensors))
            move(len(ids) + len(unread), len(names), f"{len(ids):,} images")
    if not parts:
        raise PipelineError(f"None of the {len(names):,} images in {source.url} can be read.")
    vectors = np.concatenate(parts)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    write_if_changed(target, BLOB, parquet_bytes(pa.table({"item_id": ids, COLUMN: lists})))
    return EncodedReport(len(ids), vectors.shape[1], unread)


def _names(source: Storage) -> dict[str, str]:
    """The image of each item, by name."""
    found: dict[str, str] = {}
    for name in _images(source):
        item_id = PurePosixPath(name).stem
        if item_id in found:
            raise UsageError(
                f"{found[item_id]} and {name} in {source.url} are both of item {item_id}: leave "
                "one of them."
            )
        found[item_id] = name
    if not found:
        raise UsageError(
            f"There are no images in {source.url}: expected ITEM_ID and one of "
            f"{', '.join(sorted(SUFFIXES))}; check the address."
        )
    return found


def _images(source: Storage) -> Iterator[str]:
    for blob in source.list():
        if PurePosixPath(blob.name).suffix.lower() in SUFFIXES:
            yield blob.name
