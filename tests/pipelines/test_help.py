"""Every verb says how it is used: a help text holds nothing that its printer takes for markup."""

from __future__ import annotations

import importlib

import pytest
import typer.main

from pipelines.cli import app

VERBS = (
    *("run", "backfill", "preprocess", "train", "evaluate", "export", "import", "features"),
    "status",
)


@pytest.mark.parametrize("verb", VERBS)
def test_help_is_printed(verb, capsys):
    for module in app._VERBS:
        importlib.import_module(f"pipelines.cli.{module}")
    command = typer.main.get_command(app.app).commands[verb]
    command.main(["--help"], standalone_mode=False)
    assert "--help" in capsys.readouterr().out
