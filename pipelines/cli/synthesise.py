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
    dirt: Annotated[
        list[str] | None,
        typer.Option(
            "--dirt",
            help="SHARE of the rows (days, for kinds of files) to add of each kind of dirt, or "
            "KIND=SHARE of one kind; what was planted is told in _planted/ledger.json",
        ),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="that draw and encode [default: one a core, up to 6]")
    ] = None,
) -> None:
    """Write a synthetic shop, drawn from a hyperbolic latent space, as raw interactions."""
    from pipelines.progress import bar  # noqa: PLC0415
    from pipelines.storage import open_storage  # noqa: PLC0415
    from pipelines.synthesise import CatalogueConfig  # noqa: PLC0415
    from pipelines.synthesise.dirt.kinds import parse_shares  # noqa: PLC0415
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
    shares = parse_shares(dirt or [])
    target = open_storage(to)
    with bar("Synthesising") as progress:
        written = write_catalogue(
            config, target, dirt=shares, processes=processes, progress=progress
        )
    told = "already in" if written.was_there else "written to"
    console.print(
        f"{interactions:,} interactions of {users:,} users with {items:,} items from "
        f"{config.first_day} to {config.last_day} {told} {target.url}: {written.files:,} files."
    )
    if shares:
        console.print(
            f"{len(shares)} kinds of dirt and drift among them: {written.read:,} rows in all, of "
            f"which {written.kept:,} are sound; _planted/ledger.json tells what must be found."
        )
