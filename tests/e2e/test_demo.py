"""The demo as a new user meets it, on a machine without Node."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.support import Place

pytestmark = pytest.mark.slow


def path_without_node(folder: Path) -> str:
    """A PATH with every program of this machine but Node's."""
    folder.mkdir()
    for place in os.environ["PATH"].split(os.pathsep):
        for program in Path(place).glob("*"):
            link = folder / program.name
            if not program.name.startswith(("node", "npm", "npx")) and not link.exists():
                link.symlink_to(program)
    return str(folder)


def test_the_synthetic_demo_runs_without_node_and_a_second_time_at_once(tmp_path: Path) -> None:
    place = Place.make(tmp_path / "place").with_settings(PATH=path_without_node(tmp_path / "bin"))
    try:
        first = place.hyperrec("demo")
        assert "Without Node there is no Azurite here: blobs are kept in the folder" in first.out
        assert "Published version" in first.out
        assert first.out.count("Gate passed: ") == len(re.findall("^Gate ", first.out, re.M)) > 8
        assert (Path(place.settings["HYPERREC_HOME"]) / "items.png").stat().st_size > 10_000

        second = place.hyperrec("demo")
        assert second.err.count("is done already") == 4
        assert "Epoch" not in second.err
    finally:
        stopped = place.hyperrec("down")
    assert "the Cosmos endpoint" in stopped.out
    assert not place.processes()
