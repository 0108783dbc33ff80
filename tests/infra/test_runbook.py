"""The runbook names commands that there are, and has a section for each alert."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest
import typer

from pipelines.cli import app as cli
from pipelines.flows.alerts import alerts

_TEXT = (Path(__file__).parents[2] / "infra" / "RUNBOOK.md").read_text()


def anchors() -> set[str]:
    headings = re.findall(r"^#+ (.+)$", _TEXT, re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands() -> list[str]:
    """Every hyperrec command of the runbook, from its blocks and its sentences."""
    blocks = re.findall(r"^```\n(.*?)^```", _TEXT, re.MULTILINE | re.DOTALL)
    lines = [line.partition(" #")[0] for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`(hyperrec [^`]+)`", re.sub(r"```.*?```", "", _TEXT, flags=re.DOTALL))
    found = [re.search(r"(?<![/.\w-])hyperrec [^)\"]*(\"[^\"]*\"[^)\"]*)*", line) for line in lines]
    return sorted({each[0].strip() for each in found if each})


def test_every_alert_has_its_section() -> None:
    assert {alert.section for alert in alerts()} <= anchors()


def test_every_link_inside_leads_somewhere() -> None:
    assert set(re.findall(r"\]\(#([^)]+)\)", _TEXT)) <= anchors()


@pytest.mark.parametrize("line", commands())
def test_every_command_parses(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs.json").write_text("{}")
    for verb in cli._VERBS:
        importlib.import_module(f"pipelines.cli.{verb}")
    group = typer.main.get_command(cli.app)
    _, verb, *words = shlex.split(line)
    command = group.commands[verb]  # type: ignore[attr-defined]
    # Raises when an argument is missing or an option is none of the command's.
    command.make_context(verb, words)


def test_the_commands_are_found() -> None:
    assert len(commands()) > 20
    assert 'hyperrec rollback --why "odd shoes"' in commands()
