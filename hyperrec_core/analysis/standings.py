"""The leaderboard's results as tables: every model with intervals, the twins pair by pair.

Published figures stand in the same table under the names of their papers. They are measured on the
same sets with the same protocol (leave-one-out, 100 uniform negatives), not on the same negatives,
and where a set's files say little about order (see `datasets`) not on the same held-out items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hyperrec_core.analysis import contestants
from hyperrec_core.analysis.contestants import CONTESTANTS
from hyperrec_core.analysis.contests import NEGATIVES, REPEATS, TUNING_LABELS, Contest
from hyperrec_core.analysis.report import Cell, Report, write_csv
from hyperrec_core.compare import Difference, Estimate, compare, estimates
from hyperrec_core.ranks import Ranks, read_pair

METRICS = {
    "hr_at_10": "HR@10",
    "ndcg_at_10": "NDCG@10",
    "recall_at_10_full": "Recall@10, full",
    "ndcg_at_10_full": "NDCG@10, full",
}
_BOOTSTRAP_SEED = 11

_HYPERML = ("HyperML", "CML", "MF-BPR", "NCF", "LRML")
_FIGURES: Mapping[str, Sequence[tuple[float, float]]] = {
    "ml-1m": ((75.629, 56.197), (74.528, 55.737), (74.057, 55.173), (74.127, 55.503),
              (73.358, 54.057)),
    "amazon-clothing-5core": ((27.899, 17.150), (26.371, 16.623), (20.509, 13.189),
                              (26.470, 16.809), (26.421, 16.643)),
    "amazon-sports-5core": ((48.262, 34.576), (30.197, 19.211), (38.553, 26.130), (30.232, 20.268),
                            (33.667, 22.938)),
    "amazon-cellphones-5core": ((42.921, 29.325), (29.746, 19.320), (37.434, 26.483),
                                (32.697, 22.496), (30.999, 20.177)),
    "amazon-toys-5core": ((35.995, 23.164), (32.524, 21.579), (34.877, 22.156), (30.871, 20.959),
                          (31.695, 20.747)),
}  # fmt: skip
PUBLISHED: Mapping[str, Mapping[str, tuple[float, float]]] = {
    dataset: {
        **{
            f"{name} (Tran et al. 2020)": (hr / 100, ndcg / 100)
            for name, (hr, ndcg) in zip(_HYPERML, figures, strict=True)
        },
        **({"SASRec (Kang & McAuley 2018)": (0.8245, 0.5905)} if dataset == "ml-1m" else {}),
    }
    for dataset, figures in _FIGURES.items()
}
"""HR@10 and NDCG@10 by set and model: Tran et al. 2020, table 2; Kang & McAuley 2018."""


@dataclass(frozen=True)
class _Result:
    """A contest and its ranks, all of one set numbered alike."""

    contest: Contest
    runs: Sequence[Ranks]

    @cached_property
    def estimates(self) -> dict[str, Estimate]:
        return estimates(self.runs, tuple(METRICS), seed=_BOOTSTRAP_SEED)

    @property
    def title(self) -> str:
        return CONTESTANTS[self.contest.model].title


def tabulate(contests: Sequence[Contest], to: Path) -> Report:
    """Write `leaderboard.md`, and the numbers as `leaderboard.csv` and `leaderboard-pairs.csv`.

    Args:
        contests: what was held, finished or refused, set by set.
        to: the folder.
    """
    sets = list(dict.fromkeys(contest.dataset for contest in contests))
    text, rows, pairs = [], [], []
    for dataset in sets:
        ours = [contest for contest in contests if contest.dataset == dataset]
        results = _results(ours)
        rows += [_row(result) for result in results]
        rows += [
            [dataset, name, *_blank(hr, ndcg)]
            for name, (hr, ndcg) in PUBLISHED.get(dataset, {}).items()
        ]
        pairs += _pairs(dataset, results)
        text += ["", f"### {dataset}", "", *_section(dataset, results)]
        text += [
            f"\n{CONTESTANTS[contest.model].title}: {tuning.trials[0].problem}"
            for contest in ours
            if (tuning := contest.tuning()) and tuning.trials and tuning.best is None
        ]
    columns = ["data", "model", *(f"{t}{w}" for t in METRICS.values() for w in ("", " low", " high",
               " seeds' spread")), "coverage@10", "seeds", "epochs", "seconds a fit", "trials",
               "seconds of tuning"]  # fmt: skip
    pair_columns = ["data", "pair", "metric", "first", "second", "difference", "low", "high", "p"]
    notes = _notes(contests)
    to.mkdir(parents=True, exist_ok=True)
    document = to / "leaderboard.md"
    numbers, pair_numbers = to / "leaderboard.csv", to / "leaderboard-pairs.csv"
    write_csv(numbers, columns, rows)
    write_csv(pair_numbers, pair_columns, pairs)
    text = ["## Leaderboard", "", _LEGEND, *text]
    if pairs:
        text += ["", "### Pair by pair", "", _PAIRS_LEGEND, "", *_pair_table(pairs)]
    text += ["", "### How it was measured", "", *(f"- {note}" for note in notes)]
    document.write_text("\n".join(text) + "\n", "utf-8")
    shown = [[row[0], row[1], row[2], row[6], row[10], row[14], row[-3]] for row in rows]
    return Report(
        "Leaderboard",
        ["data", "model", *METRICS.values(), "seconds a fit"],
        shown,
        notes,
        (document, numbers, pair_numbers),
    )


_LEGEND = (
    f"Leave-last-out; HR@10 and NDCG@10 among {NEGATIVES} uniform unseen items, "
    "the last two columns in the whole catalogue. In brackets the 95 % interval over users "
    "(bootstrap), after ± the standard deviation between seeds. The best of each column that we "
    "measured is bold."
)
_PAIRS_LEGEND = (
    "Mean difference over the same labels and candidates, with its 95 % interval over users "
    "(paired bootstrap) and two-sided p. The best rival is the one of the best NDCG@10 on test."
)


def _results(contests: Sequence[Contest]) -> list[_Result]:
    """The finished contests of one set, users and items numbered alike in all of them."""
    files = [(contest, contest.ranks()) for contest in contests]
    files = [(contest, ranks) for contest, ranks in files if ranks]
    if not files:
        return []
    first = files[0][1][0]
    return [
        _Result(contest, [read_pair(first, file)[1] for file in ranks]) for contest, ranks in files
    ]


def _row(result: _Result) -> list[Cell]:
    races, tuning = result.contest.races(), result.contest.tuning()
    numbers: list[Cell] = []
    for metric in METRICS:
        found = result.estimates[metric]
        numbers += [found.value, found.low, found.high, found.spread]
    return [
        result.contest.dataset,
        result.title,
        *numbers,
        sum(race["coverage_at_10"] for race in races) / len(races),
        len(races),
        races[0]["epochs"],
        sum(race["fit_seconds"] for race in races) / len(races),
        len(tuning.trials) if tuning else None,
        tuning.seconds if tuning else None,
    ]


def _blank(hr: float, ndcg: float) -> list[Cell]:
    """A published row's cells: two figures."""
    return [hr, None, None, None, ndcg, None, None, None, *[None] * 14]


def _section(dataset: str, results: Sequence[_Result]) -> list[str]:
    """One set's table, best NDCG@10 first."""
    best = {m: max((r.estimates[m].value for r in results), default=0.0) for m in METRICS}
    lines = [
        (
            result.estimates["ndcg_at_10"].value,
            [
                result.title,
                *(_estimate(result.estimates[m], best[m]) for m in METRICS),
                _work(result.contest),
            ],
        )
        for result in results
    ]
    lines += [
        (ndcg, [f"*published: {name}*", f"{hr:.4f}", f"{ndcg:.4f}", "", "", ""])
        for name, (hr, ndcg) in PUBLISHED.get(dataset, {}).items()
    ]
    lines.sort(key=lambda line: -line[0])
    return _markdown(["model", *METRICS.values(), "fit"], [cells for _, cells in lines])


def _estimate(found: Estimate, best: float) -> str:
    value = f"{found.value:.4f}"
    value = f"**{value}**" if found.value == best else value
    spread = "" if found.spread is None else f" ± {found.spread:.4f}"
    return f"{value}{spread} [{found.low:.3f}, {found.high:.3f}]"


def _work(contest: Contest) -> str:
    """What a fit took: seconds, and epochs where the model has them."""
    races = contest.races()
    seconds = sum(race["fit_seconds"] for race in races) / len(races)
    epochs = f", {races[0]['epochs']} epochs" if races[0]["epochs"] else ""
    tuning = contest.tuning()
    searched = tuning and contestants.SPACES[contest.model]
    trials = ""
    if tuning and searched:
        count = len(tuning.trials)
        trials = f"; {count} trial" if count == 1 else f"; {count} trials"
    return f"{seconds:.1f} s{epochs}{trials}"


def _pairs(dataset: str, results: Sequence[_Result]) -> list[list[Cell]]:
    """The hyperboloid against each of its twins and against the best rival, by metric."""
    by_name = {result.contest.model: result for result in results}
    ours = by_name.pop("hyperboloid", None)
    if ours is None:
        return []
    twins = [by_name.pop(name) for name in contestants.TWINS if name in by_name]
    rivals = sorted(by_name.values(), key=lambda r: -r.estimates["ndcg_at_10"].value)
    rows: list[list[Cell]] = []
    for other in [*twins, *rivals[:1]]:
        pair = f"{ours.title} - {other.title}"
        found: dict[str, Difference] = compare(
            ours.runs, other.runs, tuple(METRICS), seed=_BOOTSTRAP_SEED
        )
        rows += [
            [dataset, pair, title, d.a, d.b, d.difference, d.low, d.high, d.p]
            for title, d in zip(METRICS.values(), found.values(), strict=True)
        ]
    return rows


def _pair_table(pairs: Sequence[Sequence[Cell]]) -> list[str]:
    lines: dict[tuple[Cell, Cell], list[str]] = {}
    for dataset, pair, _, _, _, difference, low, high, p in pairs:
        line = lines.setdefault((dataset, pair), [str(dataset), str(pair)])
        line.append(f"{difference:+.4f} [{low:+.4f}, {high:+.4f}], p {_p(p)}")
    return _markdown(["data", "pair", *METRICS.values()], list(lines.values()))


def _p(p: Cell) -> str:
    # The bootstrap resolves no smaller one.
    return "≤ 0.001" if isinstance(p, float) and p < 0.0015 else f"{p:.3f}"


def _notes(contests: Sequence[Contest]) -> list[str]:
    """What decides how far the figures can be trusted."""
    budget = contests[0].budget
    races = [race for contest in contests for race in contest.races()]
    dates = sorted({race["date"] for race in races})
    machines = sorted({race["hardware"] for race in races})
    versions = sorted({", ".join(f"{k} {v}" for k, v in r["versions"].items()) for r in races})
    notes = [
        f"Measured {' to '.join(dict.fromkeys((dates[0], dates[-1])))} on {'; '.join(machines)}, "
        f"one thread a model; {'; '.join(versions)}."
        if races
        else "Nothing has been measured.",
        f"Tuning: the same for every model and set, on up to {TUNING_LABELS:,} validation labels "
        f"(NDCG@10 among {NEGATIVES} negatives): {budget.trials} trials, first the model's own "
        "starting points (below), the others chosen by optuna's TPE; where a model has epochs, "
        f"a trial has as many as {budget.trial_examples:,} examples allow, up to {budget.epochs}. "
        f"After {budget.tuning_seconds:g} s no trial begins.",
        f"Races: the best trial's parameters, as many epochs as {budget.examples:,} examples make, "
        f"{budget.epochs} at most, keeping the one that validates best; {budget.seeds} seeds (1 "
        "for a model without randomness). Fitted on train "
        "alone; test histories hold the validation item for every model.",
        "The full ranking leaves out the items of the history, except on "
        f"{', '.join(sorted(REPEATS))}, where people buy again.",
        "Published figures: the same sets, protocol and counts, but other negatives. Events of one "
        "day are in random order here where the day is known (sports, beauty, toys); for cell "
        "phones no time is known at all, and the held-out items are random ones.",
    ]
    for name in dict.fromkeys(contest.model for contest in contests):
        if space := contestants.SPACES[name]:
            searched = "; ".join(f"{key} {contestants.words(d)}" for key, d in space.items())
            starts = " / ".join(
                ", ".join(f"{key} {contestants.words(value)}" for key, value in start.items())
                for start in contestants.STARTS[name]
            )
            notes.append(
                f"{CONTESTANTS[name].title} searches {searched}. It starts from: {starts}."
            )
    return notes


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [columns, ["---"] * len(columns), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]
