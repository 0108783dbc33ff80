"""The guide's commands and formats are the code's."""

from __future__ import annotations

import importlib
import re
import shlex
from typing import Any, get_args

import typer.main

from hyperrec_core import artefact
from pipelines.preprocess import compact
from pipelines.runs import Manifest, RunRecord
from serving_export import slots
from tests.infra.dockerfile import ROOT

GUIDES = ("infra/OPERATIONS.md", "infra/azure/README.md", "infra/kubernetes/README.md")


def commands() -> dict[str, Any]:
    app = importlib.import_module("pipelines.cli.app")
    for module in app._VERBS:
        importlib.import_module(f"pipelines.cli.{module}")
    return dict(typer.main.get_command(app.app).commands)


def test_every_command_is_one():
    known = commands()
    for name in GUIDES:
        text = (ROOT / name).read_text()
        text = text.replace("\\\n", " ")
        for said in re.findall(r"(?:`|^)hyperrec\s+([^`\n]+)", text, flags=re.MULTILINE):
            words = shlex.split(said.replace("…", ""), comments=True)
            if words[0] == "deploy" and "deploy" not in known:
                continue
            assert words[0] in known, (name, said)
            offered = {o for p in known[words[0]].params for o in (*p.opts, *p.secondary_opts)}
            options = {word for word in words if word.startswith("--")}
            assert options <= offered, (name, said)


def test_files_that_guides_point_at_are_there():
    for name in GUIDES:
        folder = (ROOT / name).parent
        for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / name).read_text()):
            assert (folder / target).exists(), (name, target)


def test_formats_are_those_that_the_code_writes():
    guide = (ROOT / "infra" / "OPERATIONS.md").read_text()
    rows = dict(re.findall(r"^\| ([^|]+) \| [^|]+ \| `format` (\d+)", guide, flags=re.MULTILINE))
    (of_run,) = get_args(RunRecord.model_fields["format"].annotation)
    (of_stage,) = get_args(Manifest.model_fields["format"].annotation)
    assert of_run == of_stage
    assert {name: int(number) for name, number in rows.items()} == {
        "run.json, manifests": of_run,
        "kept days": compact.FORMAT,
        "checkpoint.safetensors": artefact._FORMAT,
        "model.json": _of_model(),
        "`control`": slots.FORMAT,
    }


def _of_model() -> int:
    text = (ROOT / "hyperrec_core" / "models" / "points.py").read_text()
    (number,) = re.findall(r'^ +"format": (\d+),$', text, flags=re.MULTILINE)
    return int(number)
