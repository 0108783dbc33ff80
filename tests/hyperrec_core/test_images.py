"""Encoders of torchvision: their numbers without the last layer, and what is told where it lacks.

Weights are random and images are drawn: nothing is fetched.
"""

from __future__ import annotations

import builtins
import importlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from hyperrec_core.images import Encoder, EncoderError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def models() -> Any:
    """torchvision's classifiers, beside a CPU build of PyTorch as well.

    PyPI's torchvision is built for CUDA. Beside a CPU build it finds none of its own operators and
    stops at the first it wants to describe. They are all of detection, so that for classifiers
    their names suffice.
    """
    try:
        return importlib.import_module("torchvision.models")
    except RuntimeError:
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor boxes) -> Tensor")
        return importlib.import_module("torchvision.models")


@pytest.fixture(scope="module")
def weights(models: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file(models.get_model("resnet18", weights=None).state_dict(), path)
    return path


def drawn(seed: int, *, mode: str = "RGB", form: str = "PNG") -> bytes:
    shape = (40, 30, 3) if mode == "RGB" else (40, 30)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels, mode=mode).save(sink, form)
    return sink.getvalue()


def test_a_vector_is_what_the_last_layer_is_given(models: Any, weights: Path) -> None:
    encoder = Encoder("resnet18", weights=weights, device=CPU)
    images = [encoder.prepared(drawn(seed)) for seed in range(3)]
    found = encoder.encode(images)
    assert found.dtype == np.float32
    assert found.shape == (3, 512)
    torch.manual_seed(3)
    whole = models.get_model("resnet18", weights=None).eval()
    last = whole.fc
    with torch.no_grad():
        expected = whole(torch.stack(images))
        torch.testing.assert_close(last(torch.from_numpy(found)), expected, rtol=1e-4, atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 1e-3
    np.testing.assert_array_equal(encoder.encode(images), found)


def test_other_kinds_of_images_are_read_and_broken_ones_told(models: Any, weights: Path) -> None:
    encoder = Encoder("resnet18", weights=weights, device=CPU)
    for image in (drawn(1, mode="L"), drawn(1, form="JPEG"), drawn(1, form="WEBP")):
        assert encoder.prepared(image).shape == (3, 224, 224)
    for broken in (b"", b"no image", drawn(1)[:200]):
        with pytest.raises(OSError):
            encoder.prepared(broken)


def test_weights_of_something_else_are_told(models: Any, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"does not hold the weights of resnet34: layer1\.2"):
        Encoder("resnet34", weights=weights, device=CPU)
    (tmp_path / "pickle.pth").write_bytes(b"\x80\x04.")
    with pytest.raises(EncoderError, match="is no safetensors file that can be read"):
        Encoder("resnet18", weights=tmp_path / "pickle.pth", device=CPU)
    with pytest.raises(EncoderError, match="torchvision has no encoder resnet19; resnet18, "):
        Encoder("resnet19", device=CPU)


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (ImportError("no"), "is not installed: install hyperrec with its extra `images`"),
        (RuntimeError("operator torchvision::nms does not exist"), "install the build of it that"),
    ],
)
def test_without_torchvision_it_says_what_to_install(
    failure: Exception, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def absent(name: str, *given: Any, **named: Any) -> Any:
        if name.startswith("torchvision"):
            raise failure
        return real(name, *given, **named)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(EncoderError, match=told):
        Encoder("resnet18", device=CPU)
