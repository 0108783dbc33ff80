"""The suite about itself: marks, the table of capabilities, and whether the witness takes part."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from tests.contract.cosmos.targets import (
    CAPABILITIES,
    EXTERNAL,
    TARGETS,
    WITNESS,
    chosen,
)

HERE = Path(__file__).resolve().parent
README = HERE.parents[2] / "infra" / "local" / "cosmos" / "README.md"


def required(node: ast.expr, named: dict[str, set[str]]) -> set[str]:
    """Capabilities that a mark, a list of marks or the name of one requires of a whole test."""
    if isinstance(node, ast.List):
        return {name for each in node.elts for name in required(each, named)}
    if isinstance(node, ast.Name):
        return named.get(node.id, set())
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.requires":
        return {str(ast.literal_eval(node.args[0]))}
    return set()  # marks of single cases inside parametrize are no part of this


def behaviours() -> dict[str, set[str]]:
    """Every test function that runs against targets, with what all its cases require."""
    found: dict[str, set[str]] = {}
    for path in sorted(set(HERE.glob("test_*.py")) - {Path(__file__).resolve()}):
        named: dict[str, set[str]] = {}
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                named[node.targets[0].id] = required(node.value, named)
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                assert node.name not in found
                whole = named.get("pytestmark", set())
                marks = (required(mark, named) for mark in node.decorator_list)
                found[node.name] = whole.union(*marks)
    return found


def table() -> list[str]:
    """The table of the README: a line a capability, and how many behaviours a target has."""
    tests = behaviours()
    counts = Counter(name for needed in tests.values() for name in needed)
    lines = [
        f"| capability | | behaviours | {' | '.join(TARGETS)} |",
        f"|---|---|---|{'---|' * len(TARGETS)}",
    ]
    for name, meaning in sorted(CAPABILITIES.items()):
        has = ["yes" if name in target.capabilities else "–" for target in TARGETS.values()]
        lines.append(f"| `{name}` | {meaning} | {counts[name]} | {' | '.join(has)} |")
    able = [
        str(sum(needed <= target.capabilities for needed in tests.values()))
        for target in TARGETS.values()
    ]
    lines.append(f"| **behaviours in all** | | {len(tests)} | {' | '.join(able)} |")
    return lines


def test_every_capability_is_required_by_a_behaviour() -> None:
    assert set().union(*behaviours().values()) == set(CAPABILITIES)


def test_no_target_lacks_what_there_is_not() -> None:
    for target in TARGETS.values():
        assert target.lacks <= set(CAPABILITIES), target.title


def test_the_suite_holds_an_account_to_at_least_sixty_behaviours() -> None:
    account = TARGETS["account"].capabilities
    assert sum(needed <= account for needed in behaviours().values()) >= 60


def test_the_readme_has_the_table() -> None:
    wanted = table()
    lines = README.read_text().splitlines()
    start = lines.index(wanted[0])
    assert lines[start : start + len(wanted)] == wanted, "\n".join(wanted)


@pytest.mark.skipif(EXTERNAL is not None, reason="an account of its own is under test")
def test_the_witness_takes_part() -> None:
    if "witness" not in chosen():
        pytest.skip(
            f"No independent witness: run npm ci --prefix {WITNESS.relative_to(Path.cwd())}"
        )
    assert chosen() == ["local", "witness"]
