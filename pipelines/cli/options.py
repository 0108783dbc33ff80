"""Options that several verbs share, so that one word means one thing."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated

import typer

from pipelines.errors import UsageError

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
Window = Annotated[
    str | None,
    typer.Option(
        "--window",
        metavar="DAYSd",
        help="days of raw data that count, --as-of the last of them, such as 365d "
        "[default: the profile's]",
    ),
]
Runs = Annotated[
    str | None,
    typer.Option(
        "--runs", help="URL under which runs are kept [default: HYPERREC_RUNS, or az://runs]"
    ),
]
RunId = Annotated[str, typer.Argument(help="the run, as `hyperrec runs` lists it")]

_WINDOW_SETTING = "preprocess.window_days"


def with_window(settings: list[str] | None, window: str | None) -> list[str]:
    """Settings, and the window as one of them.

    Args:
        settings: of `--set`.
        window: of `--window`: a number of days, such as 365d.

    Raises:
        UsageError: it is no number of days, fewer than two, or `--set` names another one.
    """
    given = list(settings or [])
    if window is None:
        return given
    found = re.fullmatch(r"([0-9]{1,5})d", window)
    if found is None or int(found[1]) < 2:
        raise UsageError(
            f"The window {window} is no number of days from 2 on: write it as 365d (--window)."
        )
    if any(each.partition("=")[0].strip() == _WINDOW_SETTING for each in given):
        raise UsageError(
            f"The window is given twice, by --window and by --set {_WINDOW_SETTING}: leave out one."
        )
    return [*given, f"{_WINDOW_SETTING}={int(found[1])}"]
