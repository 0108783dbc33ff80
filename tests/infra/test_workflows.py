"""Workflows: pinned, with no more rights than they use, and about commands that exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.contract.cosmos.targets import TARGETS
from tests.infra.dockerfile import ROOT, stages

FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
LOADED: dict[str, dict[Any, Any]] = {path.stem: yaml.safe_load(path.read_text()) for path in FILES}
MAKEFILE = (ROOT / "Makefile").read_text()


def steps() -> list[tuple[str, dict[str, Any]]]:
    return [
        (name, step)
        for name, workflow in LOADED.items()
        for job in workflow["jobs"].values()
        for step in job["steps"]
    ]


def test_every_action_is_pinned_to_a_commit_and_says_its_version():
    used = [line for path in FILES for line in path.read_text().splitlines() if "uses:" in line]
    assert used
    for line in used:
        assert re.search(r"uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line
    # One action, one commit.
    pins: dict[str, set[str]] = {}
    for line in used:
        name, _, commit = line.partition("uses: ")[2].partition("@")
        pins.setdefault(name, set()).add(commit)
    assert {name: commits for name, commits in pins.items() if len(commits) > 1} == {}


@pytest.mark.parametrize("name", LOADED)
def test_rights_and_time_are_bounded(name):
    workflow = LOADED[name]
    assert workflow["permissions"] in ({}, {"contents": "read"})
    for title, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 60, title
        granted = job.get("permissions", {})
        assert name == "release" or not granted, title
        assert "write-all" not in str(granted)


def test_no_checkout_leaves_its_token_behind():
    for name, step in steps():
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False, name


def test_scripts_take_nothing_from_an_event_but_by_variables():
    """An expression in a script is code that whoever wrote the event's text may write."""
    for name, step in steps():
        assert "${{" not in step.get("run", ""), (name, step)


def test_what_is_run_is_there():
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.M))
    for name, step in steps():
        for line in step.get("run", "").splitlines():
            words = line.split()
            if words[:1] == ["make"]:
                assert words[1] in targets, name
            for path in re.findall(r"(?:--prefix|--file|--requirement) ([\w./-]+)", line):
                assert (ROOT / path).exists(), (name, path)
            if words[:1] == ["pytest"]:
                assert (ROOT / words[1]).exists(), name
            if words and words[0].startswith("."):
                assert (ROOT / words[0]).exists(), name


def test_the_pythons_are_those_that_the_package_supports():
    required = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', _read("pyproject.toml"))
    assert required is not None
    supported = [f"3.{minor}" for minor in range(int(required[1]), int(required[2]))]
    assert LOADED["check"]["jobs"]["test"]["strategy"]["matrix"]["python"] == supported


@pytest.mark.parametrize(("workflow", "job"), [("images", "build"), ("release", "images")])
def test_every_target_is_built(workflow, job):
    matrix = LOADED[workflow]["jobs"][job]["strategy"]["matrix"]["target"]
    built = {name for name in stages(ROOT / "docker" / "Dockerfile") if name in matrix}
    assert built == set(matrix) == {"preprocess", "train", "export", "worker"}
    uses = [step.get("uses", "") for step in LOADED[workflow]["jobs"][job]["steps"]]
    build, scan = (
        next(n for n, use in enumerate(uses) if use.startswith(name))
        for name in ("docker/build-push-action@", "aquasecurity/trivy-action@")
    )
    # Nothing is pushed before it was looked through.
    pushes = [
        number
        for number, step in enumerate(LOADED[workflow]["jobs"][job]["steps"])
        if step.get("with", {}).get("push")
    ]
    assert build < scan
    assert all(scan < number for number in pushes)


def test_the_contract_suite_has_the_emulator_of_compose():
    job = LOADED["cosmos-contract"]["jobs"]["emulator"]
    run = "\n".join(step.get("run", "") for step in job["steps"])
    assert "docker compose --file docker/compose.yaml up --detach --wait cosmos" in run
    targets = [
        step["env"]["COSMOS_TARGET"] for step in job["steps"] if "COSMOS_TARGET" in str(step)
    ]
    assert targets
    assert set(targets) <= set(TARGETS)
    assert "COSMOS_TARGET=vnext" in MAKEFILE


def test_every_lock_is_looked_after():
    bot = yaml.safe_load(_read(".github/dependabot.yml"))
    looked_after = {
        folder.lstrip("/")
        for update in bot["updates"]
        for folder in update.get("directories", [update.get("directory")])
    }
    for lock in ("constraints.txt", "infra/lint/requirements.txt", "docker/Dockerfile"):
        assert str(Path(lock).parent).lstrip(".") in looked_after, lock
    for found in ROOT.glob("infra/*/package-lock.json"):
        assert str(found.parent.relative_to(ROOT)) in looked_after
    audited = "\n".join(step.get("run", "") for name, step in steps() if name == "audit")
    assert "constraints.txt" in audited
    assert "infra/lint/requirements.txt" in audited


def test_the_changelog_knows_the_version():
    version = re.search(r'^version = "([\d.]+)"$', _read("pyproject.toml"), re.M)
    assert version is not None
    (heading,) = re.findall(
        rf"^## {re.escape(version[1])} \((.+)\)$", _read("infra/CHANGELOG.md"), re.M
    )
    assert re.fullmatch(r"unreleased|20\d\d-\d\d-\d\d", heading)


def test_make_lists_its_targets_and_explains_compose():
    said = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for target in ("lint-infra", "contract", "up", "down"):
        assert re.search(rf"^  make {target} +\S", said, re.M), said
    assert "COMPOSE=1" in said


def dry(target: str, *more: str) -> str:
    """What make would run."""
    done = subprocess.run(
        ["make", "--dry-run", "--assume-old=setup", target, *more],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_up_and_down_take_the_way_they_are_told():
    composed = dry("up", "COMPOSE=1")
    assert "docker compose --file docker/compose.yaml up --build --detach --wait" in composed
    assert "hyperrec up" not in composed
    assert "docker compose --file docker/compose.yaml down" in dry("down", "COMPOSE=1")
    assert "docker" not in dry("up")
    assert "hyperrec up" in dry("up")


def _read(name: str) -> str:
    return (ROOT / name).read_text()
