"""`hyperrec features`: a folder of images into a column of vectors of the catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.app import app
from pipelines.cli.show import console


@app.command()
def features(
    images: Annotated[
        str, typer.Argument(help="a folder of images named ITEM_ID.jpg: a path or az://")
    ],
    to: Annotated[str, typer.Option("--to", help="URL of the raw layout to write")],
    encoder: Annotated[
        str, typer.Option(help="classifier of torchvision, used without its last layer")
    ] = "resnet18",
    weights: Annotated[
        Path | None,
        typer.Option(help="safetensors file of its weights [default: torchvision's own]"),
    ] = None,
) -> None:
    """Encode images by a frozen network, for a model that learns from features."""
    from pipelines.importing.images import BLOB, COLUMN, encode_images  # noqa: PLC0415
    from pipelines.storage import open_storage  # noqa: PLC0415

    target = open_storage(to)
    report = encode_images(open_storage(images), target, encoder=encoder, weights=weights)
    unread = f", {len(report.unread):,} images could not be read" if report.unread else ""
    console.print(
        f"{report.items:,} items have {report.size:,} features each in {target.url}/{BLOB}{unread}."
        f" Set preprocess.feature_column={COLUMN} to learn from them."
    )
