"""HyperML's tables 2 to 4 and figures 2 and 4 (Tran et al. 2020), computed anew on the same sets.

A cell is one model with one setting on one set: fitted on train, the epoch chosen by validation,
judged on test among 100 uniform negatives, users by their own rows, as in the paper. Where a table
wants a model's best setting, the one of the best NDCG@10 on validation counts. Every finished cell
is a line of `hyperml-cells.jsonl`; a run that was stopped goes on with those that lack.

table 2     HyperML beside CML, MF-BPR and NCF, and the published figures; LRML, the paper's
            other rival, is in no library that is kept up. HyperML and CML are there a second
            time, with a regularisation that the paper does not have
held out    the same settings where a random item of each user is held out, not the last one
table 3     HyperTS, whose parameters are in the tangent space, beside HyperML and CML
table 4     the effect of the curvature c
figure 4    the effect of gamma, what the distortion weighs
figure 2    items form a sphere around users: the picture in two dimensions, the distances in all
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hyperrec_core.analysis.datasets import find, split_of
from hyperrec_core.analysis.disc import poincare_disc
from hyperrec_core.analysis.hyperml_cells import (
    EPOCHS,
    EXAMPLES,
    GRIDS,
    QUICK_EPOCHS,
    SEED,
    Cell,
    Config,
    best_of,
    compute,
    fit_cell,
)
from hyperrec_core.analysis.kept import Record, hold
from hyperrec_core.analysis.report import Cell as Shown
from hyperrec_core.analysis.report import Report, save
from hyperrec_core.analysis.standings import PUBLISHED
from hyperrec_core.geometry import lorentz
from hyperrec_core.models import Model

FULL = (
    "ml-1m",
    "amazon-clothing-5core",
    "amazon-sports-5core",
    "amazon-cellphones-5core",
    "amazon-toys-5core",
)
"""The paper's sets of which the statistics are the same here."""

QUICK = ("ml-100k", "amazon-musical-instruments-5core")

ROWS = ("HyperML", "HyperML, regularised", "CML", "CML, regularised", "MF-BPR", "NCF")
"""Of table 2: the paper's models, and two of them with what it does without."""

_POINTS = 0.03  # how far below the published figure a cell may be

CURVATURES = (0.5, 1.0, 2.0, 4.0, 8.0)
GAMMAS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)


def run(
    data: Path, to: Path, *, datasets: Sequence[str] | None = None, quick: bool = False
) -> Report:
    """Compute the cells that lack, and write the tables and figures.

    Args:
        data: folder of data sets, see `datasets`.
        to: folder to write in, and of the cells.
        datasets: names of sets; by default `FULL`, or `QUICK` with `quick`.
        quick: one setting a model and few epochs, minutes: to try, not to compare.

    Raises:
        DatasetError: a data set is not known or not there.
    """
    chosen = tuple(datasets or (QUICK if quick else FULL))
    for dataset in chosen:
        find(dataset, data)
    kept = to / "hyperml-cells.jsonl"
    grids = {name: grid[:1] if quick else grid for name, grid in GRIDS.items()}
    tried = {(d, n): [Cell(d, c, quick) for c in grid] for d in chosen for n, grid in grids.items()}
    work = partial(compute, data=data)
    records = hold([cell for cells in tried.values() for cell in cells], work, kept)
    best = {place: best_of(cells, records) for place, cells in tried.items()}

    # The effects of c and gamma around each set's best setting.
    base = {dataset: best[dataset, "HyperML"][0].config for dataset in chosen}
    curved, distorted = (
        {
            (d, value): Cell(d, replace(base[d], **{setting: value}), quick)  # type: ignore[arg-type]
            for d in chosen
            for value in values
        }
        for setting, values in (("curvature", CURVATURES), ("distortion", GAMMAS))
    )
    records = hold([*curved.values(), *distorted.values()], work, kept)

    # What is published may have held out other items: each set's best settings with random ones.
    drawn = {
        place: replace(best[place][0], held_out="random") for place in best if place[1] in ROWS
    }
    records = hold(drawn.values(), work, kept)

    to.mkdir(parents=True, exist_ok=True)
    notes = _notes(best, quick)
    title = "HyperML's table 2, ours and published"
    found = {place: record for place, (_, record) in best.items()}
    of_drawn = {place: records[cell.key] for place, cell in drawn.items()}
    tables = [
        _table2(to / "hyperml-table2", title, chosen, found, notes),
        _table2(
            to / "hyperml-held-out", f"{title}, random items held out", chosen, of_drawn, notes
        ),
        _table3(to, chosen, best, notes),
        _effect(to, "hyperml-table4", "Effect of the curvature c", curved, records, notes),
        _effect(to, "hyperml-figure4", "Effect of gamma", distorted, records, notes),
        _figure2(to, chosen[0], base[chosen[0]], data, best, quick),
    ]
    files = [file for table in tables for file in table.files]
    return replace(tables[0], files=(*files, kept))


Best = Mapping[tuple[str, str], tuple[Cell, Record]]


def _table2(
    stem: Path,
    title: str,
    chosen: Sequence[str],
    found: Mapping[tuple[str, str], Record],
    notes: Sequence[str],
) -> Report:
    rows: list[list[Shown]] = []
    for dataset in chosen:
        published = PUBLISHED.get(dataset, {})
        for name in ROWS:
            record = found[dataset, name]
            hr, ndcg = record.get("hr_at_10"), record.get("ndcg_at_10")
            theirs = published.get(f"{name.partition(',')[0]} (Tran et al. 2020)")
            verdict = None
            if theirs is not None and hr is not None and ndcg is not None:
                reached = hr > theirs[0] - _POINTS and ndcg > theirs[1] - _POINTS
                verdict = "yes" if reached else "no"
            rows.append([dataset, name, hr, theirs and theirs[0], ndcg, theirs and theirs[1],
                         verdict, record.get("seconds")])  # fmt: skip
    return save(
        stem,
        title=title,
        columns=["data", "model", "HR@10", "published", "NDCG@10", "published",
                 "within 3 points or better", "seconds"],
        rows=rows,
        notes=notes,
    )  # fmt: skip


def _table3(to: Path, chosen: Sequence[str], best: Best, notes: Sequence[str]) -> Report:
    rows: list[list[Shown]] = [
        [dataset, name, *(best[dataset, name][1].get(m) for m in ("hr_at_10", "ndcg_at_10"))]
        for dataset in chosen
        for name in ("HyperTS", "HyperML", "CML")
    ]
    title = "HyperML's table 3: parameters in the tangent space (HyperTS)"
    columns = ["data", "model", "HR@10", "NDCG@10"]
    return save(to / "hyperml-table3", title=title, columns=columns, rows=rows, notes=notes)


def _effect(
    to: Path,
    stem: str,
    title: str,
    cells: Mapping[tuple[str, float], Cell],
    records: Mapping[str, Record],
    notes: Sequence[str],
) -> Report:
    """A row a set and value of one setting, and the curves."""
    found = {place: records[cell.key] for place, cell in cells.items()}
    rows: list[list[Shown]] = [
        [dataset, value, record.get("hr_at_10"), record.get("ndcg_at_10")]
        for (dataset, value), record in found.items()
    ]
    figure = Figure(figsize=(9, 4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, metric, name in zip(
        figure.subplots(1, 2), ("hr_at_10", "ndcg_at_10"), ("HR@10", "NDCG@10"), strict=True
    ):
        for dataset in dict.fromkeys(place[0] for place in found):
            line = [(v, r.get(metric)) for (d, v), r in found.items() if d == dataset]
            values, heights = zip(*line, strict=True)
            axes.plot(values, [np.nan if y is None else y for y in heights], "o-", label=dataset)
        axes.set(xlabel=title.rpartition(" ")[2], ylabel=name)
    axes.legend(fontsize=8)
    picture = to / f"{stem}.png"
    figure.savefig(picture, dpi=150)
    columns = ["data", title.rpartition(" ")[2], "HR@10", "NDCG@10"]
    return save(to / stem, title=title, columns=columns, rows=rows, notes=notes, pictures=[picture])


def _figure2(to: Path, dataset: str, config: Config, data: Path, best: Best, quick: bool) -> Report:
    """The first set in two dimensions, drawn; the distances of every set's best HyperML."""
    split = split_of(dataset, data)
    cell = Cell(dataset, replace(config, dimensions=2), quick)
    model = cast(Model, fit_cell(cell, split)[0])
    drawn = np.random.default_rng(SEED).permutation(len(split.train.user_ids))[:40]
    batch = split.train.whole_rows().batch(np.sort(drawn), lags=1)
    picture = to / "hyperml-figure2.png"
    poincare_disc(
        lorentz.flip_time(model.item_vectors()).numpy(),
        split.counts,
        None if split.categories is None else split.categories.to_pylist(),
        picture,
        title=f"HyperML on {dataset}, d = 2, with 40 users",
        users=model.user_vectors(batch).numpy(),
    )
    names = ("items_radius", "users_radius", "own_items_distance")
    rows: list[list[Shown]] = [
        [place[0], *(record.get(name) for name in names)]
        for place, (_, record) in best.items()
        if place[1] == "HyperML"
    ]
    return save(
        to / "hyperml-figure2",
        title="Mean distances on the ball, in units of its radius of curvature",
        columns=["data", "items to the origin", "users to the origin", "users to their items"],
        rows=rows,
        pictures=[picture],
    )


def _notes(best: Best, quick: bool) -> list[str]:
    records = [record for _, record in best.values()]
    effort = (
        f"A quick run: one setting a model, {QUICK_EPOCHS} epochs; nothing here is comparable."
        if quick
        else f"The best of {', '.join(f'{len(g)} settings of {n}' for n, g in GRIDS.items())} on "
        f"validation; as many epochs as {EXAMPLES:,} examples make, {EPOCHS} at most."
    )
    settings = [
        f"{dataset}, {name}: " + ", ".join(f"{k} {v}" for k, v in record["settings"].items())
        for (dataset, name), (_, record) in best.items()
    ]
    return [
        f"Measured {max(r['date'] for r in records)} on {records[0]['hardware']}, one thread a "
        "cell. " + effort,
        "Published figures: the same sets and protocol, other negatives and, where a set's files "
        "say little about order, other held-out items. The tables 3 and 4 of the paper are not "
        "beside ours.",
        "; ".join(settings) + ".",
    ]
