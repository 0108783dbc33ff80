"""`hyperrec reproduce`: what there is, where it goes, and how it is refused."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hyperrec_core.analysis import leaderboard
from hyperrec_core.analysis.report import Report
from pipelines.cli.reproduce import reproduce
from tests.cli.conftest import Fails
from tests.support import Place


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """ml-100k in small: item k has 60 // k users."""
    pairs = [(f"u{u}", f"i{k}") for k in range(1, 31) for u in range(60 // k)]
    folder = tmp_path / "sets" / "ml-100k"
    folder.mkdir(parents=True)
    users, items = zip(*pairs, strict=True)
    times = list(range(len(pairs)))
    table = pa.table({"user_id": users, "item_id": items, "timestamp": times})
    pq.write_table(table, folder / "interactions.parquet")
    return folder.parent


def test_without_a_name_it_lists_what_there_is(place: Place) -> None:
    done = place.hyperrec("reproduce")
    figures = [f"figure{number}" for number in (4, 5, 6, 7, 8)]
    for name in ("table1", *figures, "numerics", "leaderboard", "hyperml", "autoencoders", "hvacf"):
        assert f" {name} " in done.out
    assert done.err == ""


def test_a_figure_lands_with_its_numbers_where_it_was_sent(
    place: Place, data: Path, tmp_path: Path
) -> None:
    to = tmp_path / "drawn" / "here"
    done = place.hyperrec("reproduce", "figure6", "--data", str(data), "--to", str(to))
    written = {path.name for path in to.iterdir()}
    assert written == {"figure6.png", "figure6.md", "figure6.csv", "figure6-points.csv"}
    assert "ml-100k" in done.out
    assert f"wrote {to / 'figure6.png'}" in done.err


@pytest.mark.parametrize(
    ("quick", "sets", "asked", "whole"),
    [(True, None, None, False), (False, "a,b", ["a", "b"], False), (False, None, None, True)],
)
def test_the_leaderboard_is_asked_for_what_the_words_say(
    quick: bool, sets: str | None, asked: list[str] | None, whole: bool, tmp_path: Path, monkeypatch
) -> None:
    calls = []

    def run(data: Path, to: Path, **named: object) -> Report:
        calls.append((data, to, named))
        return Report("Board", ["model", "HR"], [("ours", 0.5)], [], [])

    monkeypatch.setattr(leaderboard, "run", run)
    monkeypatch.setenv("HYPERREC_DATASETS", str(tmp_path / "sets"))
    reproduce("leaderboard", to=tmp_path / "to", quick=quick, datasets=sets)
    ((data, to, named),) = calls
    assert (data, to) == (tmp_path / "sets", tmp_path / "to")
    readme = named.pop("readme")
    assert named == {"datasets": asked, "quick": quick}
    # Only the whole table may replace the one beside the code.
    assert readme == (Path(leaderboard.__file__).with_name("README.md") if whole else None)


def test_mistakes_are_told_in_a_sentence(fails: Fails, tmp_path: Path) -> None:
    said = fails("reproduce", "figure9", code=2)
    assert said.startswith("There is no reproduction figure9; there are table1, figure4, ")
    said = fails("reproduce", "figure6", "--quick", code=2)
    assert said.startswith(
        "--quick and --datasets are for leaderboard, hyperml, autoencoders, hvacf; "
    )
    empty = str(tmp_path)
    said = fails("reproduce", "figure6", "--data", empty, "--to", empty, code=2)
    assert said.startswith(f"{tmp_path} holds none of the data sets ml-100k, ")
    file = tmp_path / "file"
    file.touch()
    said = fails("reproduce", "figure6", "--to", str(file), code=2)
    assert said == f"Cannot write in {file}: File exists; choose another --to."
