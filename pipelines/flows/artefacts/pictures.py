"""Pictures for the UI: small PNG files that stand in Markdown as they are.

A UI cannot sign in to the storage of runs, so a picture comes with its text, as a data: address.
They are kept small, since they lie in Prefect's database.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

_WIDTH = 760
_COLOURS = 96


def loss_curve(epochs: Sequence[Mapping[str, Any]]) -> bytes:
    """Loss and validation metrics by epoch, as PNG.

    Args:
        epochs: of `epochs.json`.
    """
    numbers = [epoch["number"] for epoch in epochs]
    figure = Figure(figsize=(7.6, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    loss = figure.add_subplot()
    loss.plot(numbers, [epoch["loss"] for epoch in epochs], color="#0072b2", marker=".")
    loss.set_xlabel("epoch")
    loss.xaxis.set_major_locator(MaxNLocator(integer=True))
    loss.set_ylabel("loss", color="#0072b2")
    loss.grid(alpha=0.3)
    judged = [epoch for epoch in epochs if epoch["ndcg_at_10"] is not None]
    if judged:
        metric = loss.twinx()
        for name, title, colour in (
            ("hr_at_10", "HR@10", "#d55e00"),
            ("ndcg_at_10", "NDCG@10", "#009e73"),
        ):
            values = [epoch[name] for epoch in judged]
            metric.plot([epoch["number"] for epoch in judged], values, color=colour, label=title)
        metric.set_ylabel("validation")
        metric.legend(loc="center right", frameon=False)
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=100)
    return small(written.getvalue())


def small(png: bytes) -> bytes:
    """A picture in the width of a page and few colours."""
    with Image.open(io.BytesIO(png)) as picture:
        plain = picture.convert("RGB")
    plain.thumbnail((_WIDTH, _WIDTH))
    written = io.BytesIO()
    plain.quantize(_COLOURS).save(written, format="png", optimize=True)
    return written.getvalue()


def embedded(png: bytes, words: str) -> str:
    """A picture as Markdown, with words for who cannot see it."""
    return f"![{words}](data:image/png;base64,{base64.b64encode(png).decode()})"
