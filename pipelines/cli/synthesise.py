"""`hyperrec synthesise`: a made-up shop in the raw layout, for demos and load tests."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from pipelines.cli.app import app
from pipelines.cli.show import console
from pipelines.errors import UsageError


@app.command()
def synthesise(
    to: Annotated[str, typer.Option("--to", help="URL of the raw layout to write")],
    users: int = 3000,
    items: int = 1500,
    interactions: int = 60_000,
    days: int = 180,
    last_day: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"])] = datetime(2024, 6, 30),
    seed: int = 1,
) -> None:
    """Write a synthetic shop, drawn from a hyperbolic latent space, as raw interactions."""
    from pipelines.storage import open_storage  # noqa: PLC0415
    from pipelines.synthesise import CatalogueConfig  # noqa: PLC0415
    from pipelines.synthesise.write import write_catalogue  # noqa: PLC0415

    try:
        config = CatalogueConfig(
            users=users,
            items=items,
            interactions=interactions,
            days=days,
            last_day=last_day.date(),
            seed=seed,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    target = open_storage(to)
    rows = write_catalogue(config, target)
    console.print(
        f"{rows:,} interactions of {users:,} users with {items:,} items from {config.first_day} to "
        f"{config.last_day} written to {target.url}."
    )
