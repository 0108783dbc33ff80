"""What the figures assert of their numbers, and that pictures and numbers are written."""

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from matplotlib.image import imread

from hyperrec_core.analysis import figure5, figure6, figure7, figure8, report, table1
from hyperrec_core.analysis.datasets import DatasetError, load
from hyperrec_core.fit import TrainConfig
from hyperrec_core.geometry import lorentz
from hyperrec_core.midpoint import normalise


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """One small set with item degrees like 1/x, and each first purchase made twice."""
    generator = np.random.default_rng(1)
    users, items = [], []
    for item in range(200):
        takers = generator.choice(300, 1 + 250 // (item + 1), replace=False)
        users += [f"u{u}" for u in takers] + [f"u{takers[0]}"]
        items += [f"i{item}"] * (len(takers) + 1)
    folder = tmp_path / "data" / "ml-100k"
    folder.mkdir(parents=True)
    table = pa.table({"user_id": users, "item_id": items, "timestamp": np.arange(len(users))})
    pq.write_table(table, folder / "interactions.parquet")
    return tmp_path / "data"


@pytest.mark.parametrize("number", [0, 1, 2])
def test_simulated_groups_separate_and_what_both_buy_is_nearest_the_origin(number: int) -> None:
    market = figure5.markets(1)[number]
    users, items = figure5.simulate(market.bought, seed=1)
    assert float(lorentz.residual(users).max()) < 1e-12
    assert figure5.separated(users, market.user_groups) >= 0.95
    radius, shared = lorentz.radius(items), market.item_groups == -1
    assert int(shared.sum()) == (0, 1, 6)[number]
    if shared.any():
        assert radius[shared].max() < radius[~shared].min()
    # Items of different groups lie on different sides.
    apart = lorentz.pairwise_distance(
        items[market.item_groups == 0], items[market.item_groups == 1]
    )
    within = lorentz.pairwise_distance(
        items[market.item_groups == 0], items[market.item_groups == 0]
    )
    assert apart.mean() > within.mean()


def test_points_that_know_nothing_of_groups_do_not_count_as_separated() -> None:
    users = lorentz.from_spatial(torch.randn(200, 2, generator=torch.Generator().manual_seed(1)))
    assert figure5.separated(users, torch.arange(200) % 2) < 0.7


def test_every_simulated_user_bought_half_of_what_was_open_to_the_group() -> None:
    for market in figure5.markets(2)[::2]:
        foreign = market.item_groups == 1 - market.user_groups.unsqueeze(1)
        assert not (market.bought & foreign).any()
        assert (market.bought.sum(1) == (~foreign).sum(1) // 2).all()
    one_for_all = figure5.markets(2)[1]
    assert one_for_all.bought[:, one_for_all.item_groups == -1].all()


def test_figure_5_is_drawn_and_its_points_are_those_of_the_picture(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(figure5, "_SEEDS", range(1, 2))
    made = figure5.reproduce(tmp_path, tmp_path / "new")
    assert [row[-1] for row in made.rows] == ["1 of 1 seeds"] * 3
    assert all(file.is_file() for file in made.files)
    assert imread(made.files[0]).std() > 0.05
    points = read(tmp_path / "new" / "figure5-points.csv")
    assert len(points) == 3 * 100 + 20 + 21 + 20
    on_sheet = [float(p["x0"]) ** 2 - float(p["x1"]) ** 2 - float(p["x2"]) ** 2 for p in points]
    assert on_sheet == pytest.approx([1.0] * len(points), abs=1e-9)


def test_an_edge_counts_once_however_often_it_was_taken(data: Path) -> None:
    graph = table1.network(load("ml-100k", data))
    assert graph.degrees.tolist()[:4] == [251, 126, 84, 63]
    assert graph.edges == sum(1 + 250 // (item + 1) for item in range(200))
    assert graph.density == pytest.approx(graph.edges / (graph.users * 200))


def test_table_1_says_what_is_there(data: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(table1, "_RESAMPLES", 3)
    made = table1.reproduce(data, tmp_path)
    (row,) = read(tmp_path / "table1.csv")
    assert row["data set"] == "ml-100k"
    assert float(row["degree"]) == pytest.approx(float(row["interactions"]) / 200)
    assert 1 < float(row["alpha"]) < 6
    text = (tmp_path / "table1.md").read_text()
    assert "| ml-100k |" in text
    assert "3 resamples" in text
    assert {file.name for file in made.files} == {"table1.csv", "table1.md"}


def test_figure_6_draws_every_item(data: Path, tmp_path: Path) -> None:
    made = figure6.reproduce(data, tmp_path)
    assert imread(made.files[0]).std() > 0.02
    points = read(tmp_path / "figure6-points.csv")
    share = [float(p["share of items with at least it"]) for p in points]
    assert share[0] == 1
    assert share == sorted(share, reverse=True)
    assert share[-1] == pytest.approx(1 / 200)
    # The line starts on the data.
    first = next(p for p in points if p["fitted share"])
    assert float(first["fitted share"]) == pytest.approx(
        float(first["share of items with at least it"])
    )


@pytest.mark.parametrize("far", [0.0, 1.0, 4.0])
def test_centring_moves_the_weighted_midpoint_to_the_origin_and_no_distance(far: float) -> None:
    generator = torch.Generator().manual_seed(1)
    spatial = torch.randn(50, 3, generator=generator, dtype=torch.float64) + far
    points, weights = lorentz.from_spatial(spatial), torch.rand(50, generator=generator).double()
    moved = points @ figure7.centring(points, weights)
    assert float(lorentz.residual(moved).max()) < 1e-12
    centre = normalise((weights.unsqueeze(1) * moved).sum(0))
    assert centre.tolist() == pytest.approx([1, 0, 0, 0], abs=1e-7)
    before, after = (lorentz.pairwise_distance(x, x) for x in (points, moved))
    assert torch.allclose(before, after, atol=1e-6)


def test_neighbours_agree_where_categories_gather_and_as_chance_has_it_where_not() -> None:
    generator = torch.Generator().manual_seed(1)
    spatial = torch.randn(200, 2, generator=generator, dtype=torch.float64)
    counts = np.full(200, 10)
    sides = ["left" if x < 0 else "right" for x in spatial[:, 0].tolist()]
    points = lorentz.from_spatial(spatial)
    agree, chance = figure7.neighbour_agreement(points, counts, sides)
    assert agree > 0.85
    assert chance == pytest.approx(0.5, abs=0.02)
    agree, chance = figure7.neighbour_agreement(points, counts, [*("ab" * 90), *[None] * 20])
    assert agree == pytest.approx(chance, abs=0.06)


def test_figure_7_writes_what_it_draws(tmp_path: Path, monkeypatch) -> None:
    generator = np.random.default_rng(1)
    folder = tmp_path / "renttherunway"
    folder.mkdir()
    users = np.repeat(np.arange(150), 8)
    # Users of one taste take items of one half, the popular ones more often.
    items = (40 * generator.random(1200) ** 2).astype(int) + 40 * (users % 2)
    table = {"user_id": [f"u{u}" for u in users], "item_id": [f"i{i:02}" for i in items]}
    table["timestamp"] = list(range(1200))
    pq.write_table(pa.table(table), folder / "interactions.parquet")
    kinds = {"item_id": [f"i{i:02}" for i in range(80)]}
    kinds["categories"] = [["left" if i < 40 else "right"] for i in range(80)]
    pq.write_table(pa.table(kinds), folder / "item_categories.parquet")
    monkeypatch.setattr(figure7, "_CONFIG", TrainConfig(model=figure7._CONFIG.model, epochs=6))
    made = figure7.reproduce(tmp_path, tmp_path / "new")
    values = {row[0]: row[1] for row in made.rows}
    assert values["share of the 10 nearest items of the same category"] > 0.7
    drawn = read(tmp_path / "new" / "figure7-items.csv")
    assert len(drawn) == values["items"] == len(set(items.tolist()))
    assert {row["category"] for row in drawn} == {"left", "right"}
    centre = np.average(
        [[float(row[x]) for x in ("x0", "x1", "x2")] for row in drawn],
        axis=0, weights=[int(row["count"]) for row in drawn],
    )  # fmt: skip
    assert centre[1:] == pytest.approx([0, 0], abs=1e-6)
    assert len(read(tmp_path / "new" / "figure7-users.csv")) == 60


def test_figure_8_compares_sizes_and_writes_a_curve_for_each_seed(
    tmp_path: Path, monkeypatch
) -> None:
    generator = np.random.default_rng(1)
    folder = tmp_path / "ml-100k"
    folder.mkdir()
    users = np.repeat(np.arange(60), 10)
    items = generator.integers(0, 20, 600) + 20 * (users % 2)
    table = {"user_id": [f"u{u}" for u in users], "item_id": [f"i{i}" for i in items]}
    table["timestamp"] = list(range(600))
    pq.write_table(pa.table(table), folder / "interactions.parquet")
    monkeypatch.setattr(figure8, "_SEEDS", (1, 2))
    monkeypatch.setattr(figure8, "_EPOCHS", 4)
    made = figure8.reproduce(tmp_path, tmp_path / "new")
    assert imread(made.files[0]).std() > 0.05
    symmetric, uniform, learned = made.rows
    # d = 50; learned weights have one for each of 100 lags.
    assert symmetric[1] == 50 * (40 + 60)
    assert uniform[1] == 50 * 40
    assert learned[1] == 50 * 40 + 100
    for row in made.rows:
        low, high = (float(word) for word in str(row[-1]).split(" to "))
        assert low <= float(row[4]) <= high
    curves = read(tmp_path / "new" / "figure8-epochs.csv")
    assert len(curves) == 3 * 2 * 4
    times = [float(row["training seconds"]) for row in curves[:4]]
    assert times == sorted(times)


def test_a_folder_without_any_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="HYPERREC_DATASETS"):
        table1.present(tmp_path)


def test_numbers_are_written_in_full_and_read_rounded(tmp_path: Path) -> None:
    made = report.save(
        tmp_path / "deep" / "x",
        title="T",
        columns=["name", "n", "share", "none"],
        rows=[("a", 12345, 1 / 3, None)],
        notes=["One.", "Two."],
        pictures=[tmp_path / "x.png"],
    )
    assert made.files[1].read_text() == (
        "# T\n\n![T](x.png)\n\n| name | n | share | none |\n| --- | --- | --- | --- |\n"
        "| a | 12,345 | 0.3333 |  |\n\nOne.\n\nTwo.\n"
    )
    assert made.files[2].read_text() == "name,n,share,none\na,12345,0.3333333333333333,\n"
