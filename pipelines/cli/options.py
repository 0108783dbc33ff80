"""Options that several verbs share, so that one word means one thing."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

Input = Annotated[
    str,
    # Square brackets would be markup.
    typer.Option("--input", help="URL of the raw layout: az://CONTAINER/FOLDER or file://FOLDER"),
]
AsOf = Annotated[
    datetime,
    typer.Option(
        "--as-of", formats=["%Y-%m-%d"], help="the last day whose interactions count (UTC)"
    ),
]
ProfileName = Annotated[
    str, typer.Option("--profile", help="name of a profile, or the path of a .toml file")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="replace one setting of the profile: section.setting=value"),
]
Runs = Annotated[
    str | None,
    typer.Option(
        "--runs", help="URL under which runs are kept [default: HYPERREC_RUNS, or az://runs]"
    ),
]
RunId = Annotated[str, typer.Argument(help="the run, as `hyperrec runs` lists it")]
