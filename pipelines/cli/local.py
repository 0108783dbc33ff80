"""`hyperrec up | ui | down`: the stores and the Prefect server of this machine."""

from __future__ import annotations

import shlex
from typing import Annotated, Literal

import typer

from pipelines.cli.app import app
from pipelines.cli.show import console
from pipelines.errors import UsageError

Port = Annotated[int, typer.Option(min=0, max=65535, help="0: the one used last, or any free one")]


@app.command()
def up(
    only: Annotated[
        Literal["stores"] | None, typer.Option(help="leave out Prefect and its workers")
    ] = None,
    gpu: Annotated[
        bool | None, typer.Option("--gpu/--no-gpu", help="a worker for the GPU pool, too")
    ] = None,
    blob_port: Port = 0,
    cosmos_port: Port = 0,
    prefect_port: Port = 0,
) -> None:
    """Start Azurite, the Cosmos endpoint and Prefect with its workers, or find them running."""
    from infra.local import prefect_services, services  # noqa: PLC0415
    from pipelines.settings import Environment  # noqa: PLC0415

    home = Environment().hyperrec_home
    stores = services.up(home, blob_port=blob_port, cosmos_port=cosmos_port)
    console.print(
        f"blobs   {stores.blob_endpoint or 'none: Node or Azurite is missing, use file://'}"
    )
    console.print(f"cosmos  {stores.cosmos_endpoint}")
    if only == "stores":
        return
    with console.status("starting Prefect"):
        prefect = prefect_services.up(home, port=prefect_port, gpu=gpu)
    console.print(f"prefect {prefect.ui_url}  (`hyperrec ui` tells how to sign in)")
    console.print(f"workers {', '.join(prefect.pools)}")


@app.command()
def ui(
    password: Annotated[
        bool, typer.Option("--password", help="print what signs in, user:password, alone")
    ] = False,
    exports: Annotated[
        bool, typer.Option("--env", help='print variables: eval "$(hyperrec ui --env)"')
    ] = False,
) -> None:
    """Say where the Prefect server of `hyperrec up` is and, when asked, how to sign in."""
    from infra.local import prefect_services  # noqa: PLC0415
    from pipelines.settings import Environment  # noqa: PLC0415

    found = prefect_services.running(Environment().hyperrec_home)
    if found is None:
        raise UsageError("No Prefect server runs here: start it with `hyperrec up`.")
    # Secrets go to standard output only on request, never through the log.
    if password:
        typer.echo(found.auth)
    elif exports:
        typer.echo(f"export PREFECT_API_URL={shlex.quote(found.api_url)}")
        typer.echo(f"export PREFECT_API_AUTH_STRING={shlex.quote(found.auth)}")
    else:
        console.print(f"{found.ui_url}  sign in with what `hyperrec ui --password` prints")


@app.command()
def down() -> None:
    """Stop all of them, flow runs that are under way included; data stay."""
    from infra.local import services  # noqa: PLC0415
    from pipelines.settings import Environment  # noqa: PLC0415

    stopped = services.down(Environment().hyperrec_home)
    console.print(f"Stopped: {', '.join(stopped) or 'nothing was running'}.")
