"""Feature vectors of images, by a frozen encoder of torchvision: a network without its last layer.

torchvision is an extra (`images`) and is imported here alone, when an encoder is made. Its weights
are the published ones, which torchvision fetches once and checks, or those of a safetensors file;
nothing that is unpickled can run code.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn


class EncoderError(ValueError):
    """There is no such encoder here; the message says why and what to do."""


class Encoder:
    """A frozen network that turns images into vectors."""

    def __init__(self, name: str, *, weights: Path | None = None, device: torch.device) -> None:
        """An encoder in evaluation mode.

        Args:
            name: of a classifier of torchvision, `resnet18` say.
            weights: a safetensors file of its parameters; by default torchvision's own.
            device: where to compute.

        Raises:
            EncoderError: torchvision is not there or does not load, has no such classifier, or its
                weights cannot be had.
        """
        models = _torchvision_models()
        try:
            published = models.get_model_weights(name).DEFAULT
            network: nn.Module = models.get_model(name, weights=None)
        except (ValueError, AttributeError) as error:
            raise EncoderError(
                f"torchvision has no encoder {name}; resnet18, resnet50 and vit_b_16 are some of "
                "those it has."
            ) from error
        network.load_state_dict(_parameters(name, published, weights, network))
        _without_last_layer(name, network)
        self._network = network.eval().to(device)
        self._transform = published.transforms()
        self._device = device

    def prepared(self, data: bytes) -> Tensor:
        """An image file as the network takes it, float32 [3, height, width].

        Raises:
            OSError: it is no image that Pillow reads, or a broken one.
        """
        try:
            with Image.open(io.BytesIO(data)) as image:
                tensor: Tensor = self._transform(image.convert("RGB"))
        except (Image.DecompressionBombError, SyntaxError, ValueError) as error:
            raise OSError(str(error)) from error
        return tensor

    @torch.no_grad()
    def encode(self, images: Sequence[Tensor]) -> NDArray[np.float32]:
        """Vectors of prepared images, [n, F]."""
        vectors = self._network(torch.stack(tuple(images)).to(self._device))
        found: NDArray[np.float32] = vectors.float().cpu().numpy()
        return found


def _torchvision_models() -> Any:
    try:
        from torchvision import models  # noqa: PLC0415
    except ImportError as error:
        raise EncoderError(
            "Images are encoded by torchvision, which is not installed: install hyperrec with its "
            "extra `images`."
        ) from error
    except RuntimeError as error:  # built for another PyTorch, it lacks its own operators
        raise EncoderError(
            f"torchvision does not load beside PyTorch {torch.__version__} ({error}): install the "
            "build of it that goes with this one."
        ) from error
    return models


def _parameters(
    name: str, published: Any, weights: Path | None, network: nn.Module
) -> dict[str, Tensor]:
    if weights is None:
        try:
            found: dict[str, Tensor] = published.get_state_dict(check_hash=True, weights_only=True)
        except OSError as error:
            raise EncoderError(
                f"torchvision cannot fetch the weights of {name} ({error}): give them as a "
                "safetensors file with --weights."
            ) from error
        return found
    try:
        given: dict[str, Tensor] = load_file(weights)
    except (OSError, SafetensorError) as error:
        raise EncoderError(
            f"{weights} is no safetensors file that can be read: {error}."
        ) from error
    own = network.state_dict()
    for key in sorted(own.keys() | given.keys()):
        if key not in own or key not in given or own[key].shape != given[key].shape:
            raise EncoderError(
                f"{weights} does not hold the weights of {name}: {key} is not the same in both."
            )
    return given


def _without_last_layer(name: str, network: nn.Module) -> None:
    """Put the identity in the place of the linear layer that tells classes apart."""
    layers = [path for path, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    if not layers:
        raise EncoderError(f"{name} ends in no linear layer: choose resnet18, or another encoder.")
    network.set_submodule(layers[-1], nn.Identity())
