"""`hyperrec up | down`: Azurite and the Cosmos endpoint of this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.cli.app import app
from pipelines.cli.show import console

Port = Annotated[int, typer.Option(min=0, max=65535, help="0: the one used last, or any free one")]


@app.command()
def up(blob_port: Port = 0, cosmos_port: Port = 0) -> None:
    """Start Azurite and the Cosmos endpoint, or find them running."""
    from infra.local import services  # noqa: PLC0415
    from pipelines.settings import Environment  # noqa: PLC0415

    found = services.up(Environment().hyperrec_home, blob_port=blob_port, cosmos_port=cosmos_port)
    console.print(
        f"blobs   {found.blob_endpoint or 'none: Node or Azurite is missing, use file://'}"
    )
    console.print(f"cosmos  {found.cosmos_endpoint}")


@app.command()
def down() -> None:
    """Stop them; their data stay."""
    from infra.local import services  # noqa: PLC0415
    from pipelines.settings import Environment  # noqa: PLC0415

    stopped = services.down(Environment().hyperrec_home)
    console.print(f"Stopped: {', '.join(stopped) or 'nothing was running'}.")
