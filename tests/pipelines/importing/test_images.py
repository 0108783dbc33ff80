"""Images as a file of features: named after items, broken ones counted, read as a catalogue's."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from hyperrec_core.images import EncoderError
from pipelines.errors import PipelineError, UsageError
from pipelines.importing import images
from pipelines.importing.images import encode_images
from pipelines.preprocess.features import read_features
from pipelines.storage import Folder
from tests.hyperrec_core.test_images import drawn


class MeanColour:
    """An encoder of three numbers that needs no torchvision."""

    def __init__(self, name: str, *, weights: Path | None, device: torch.device) -> None:
        if name != "mean":
            raise EncoderError(f"There is no {name}.")

    def prepared(self, data: bytes) -> Tensor:
        with Image.open(io.BytesIO(data)) as image:
            return torch.from_numpy(np.array(image.convert("RGB"), np.float32)).permute(2, 0, 1)

    def encode(self, tensors: list[Tensor]) -> NDArray[np.float32]:
        return torch.stack(tensors).mean(dim=(2, 3)).numpy()


@pytest.fixture(autouse=True)
def mean_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "Encoder", MeanColour)
    monkeypatch.setattr(images, "_AT_ONCE", 2)


def encode(folder: Path, encoder: str = "mean") -> Any:
    return encode_images(
        Folder(folder / "in"), Folder(folder / "raw"), encoder=encoder, weights=None
    )


def test_every_readable_image_is_a_row_of_the_catalogues_column(tmp_path: Path) -> None:
    source = Folder(tmp_path / "in")
    for number, name in enumerate(["a.png", "coats/b 1.PNG", "coats/c.png"]):
        source.write(name, drawn(number))
    source.write("coats/broken.jpg", b"no image")
    source.write("readme.txt", b"no image either")
    report = encode(tmp_path)
    assert (report.items, report.size, report.unread) == (3, 3, ["coats/broken.jpg"])
    raw = Folder(tmp_path / "raw")
    listing = list(raw.list())
    assert [blob.name for blob in listing] == ["items/features.parquet"]
    found = read_features(raw, listing, "features")
    vectors = dict(zip(found["item_id"].to_pylist(), found["features"].to_pylist(), strict=True))
    assert set(vectors) == {"a", "b 1", "c"}
    encoder = MeanColour("mean", weights=None, device=torch.device("cpu"))
    expected = encoder.encode([encoder.prepared(drawn(2))])[0]
    np.testing.assert_allclose(vectors["c"], expected, rtol=1e-6)
    # The same images leave the file, and so its tag, as they are.
    encode(tmp_path)
    assert list(raw.list()) == listing


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"There are no images in file:.*: expected ITEM_ID and"):
        encode(tmp_path)
    source = Folder(tmp_path / "in")
    source.write("a.jpg", b"")
    with pytest.raises(PipelineError, match=r"None of the 1 images in file:.* can be read"):
        encode(tmp_path)
    with pytest.raises(UsageError, match="There is no other"):
        encode(tmp_path, "other")
    source.write("more/a.png", drawn(1))
    with pytest.raises(UsageError, match=r"a\.jpg and more/a\.png in .* are both of item a: leave"):
        encode(tmp_path)
