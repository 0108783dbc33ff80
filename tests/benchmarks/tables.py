"""Tables of a run, in Markdown, from the raw numbers alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hyperrec_core.analysis.report import Cell, shown
from tests.benchmarks.case import Measurement, Run

THRESHOLDS = (0.35, 0.40, 0.45, 0.50, 0.55, 0.58)
"""NDCG@10 whose first reaching is timed."""

_GEOOPT = {
    "sgd": "geoopt RiemannianSGD",
    "adam": "geoopt RiemannianAdam",
    "sparse-sgd": "geoopt SparseRiemannianSGD",
    "sparse-adam": "geoopt SparseRiemannianAdam",
}


def report(run: Run) -> str:
    """All tables of a run that have a row, under its machine, and what failed."""
    lines = [f"- {name}: {value}" for name, value in run.machine.items()]
    if not any(m.device == "cuda" for m in run.measurements):
        lines.append("- no GPU here: there is no GPU figure")
    for title, words, table in _TABLES:
        rows = table(run)
        if len(rows) > 1:
            lines += ["", f"### {title}", "", words, "", *_markdown(rows)]
    failed = [m for m in run.measurements if m.error]
    if failed:
        lines += ["", "### Failed", "", *(f"- {m.case}: {m.error}" for m in failed)]
    return "\n".join(lines) + "\n"


def names(measurement: Measurement) -> str:
    """Who was measured, in a few words."""
    options = measurement.options
    if measurement.kind == "geoopt":
        return _GEOOPT[options["geoopt"]]
    if measurement.kind == "implicit":
        settings = ", ".join(f"{key} {value:g}" for key, value in options["settings"].items())
        return f"implicit {options['model'].upper()} ({settings})"
    if measurement.kind == "race":
        return (
            f"hyperrec, {_many(options['epochs'], 'epoch')}, {_many(measurement.threads, 'thread')}"
        )
    return f"hyperrec, {options.get('aggregator', 'learned')}"


def words_of(data: str) -> str:
    """A data set as a person says it: `asos/28000000/132399` is ASOS-like, 28 M."""
    kind, *numbers = data.split("/")
    if kind != "asos":
        return kind
    return f"ASOS-like, {millions(int(numbers[0]))}"


def millions(number: int) -> str:
    """4,000,000 as 4 M."""
    return f"{number / 1e6:g} M" if number >= 100_000 else f"{number:,}"


def interactions(measurement: Measurement) -> int:
    """How many a synthetic set has."""
    return int(measurement.data.split("/")[1])


def catalogue(measurement: Measurement) -> int:
    """How many items a synthetic set was asked for."""
    return int(measurement.data.split("/")[2])


def width(measurement: Measurement) -> int:
    """d."""
    return int(measurement.options["dimensions"])


def reached(curve: Iterable[dict[str, float]], threshold: float) -> float | None:
    """Seconds at the first point of a race that has at least this NDCG@10; None for never."""
    return next((p["seconds"] for p in curve if p["ndcg_at_10"] >= threshold), None)


def _fits(run: Run) -> list[Sequence[Cell]]:
    head = (
        "data", "model", "device", "threads", "examples/s", "epoch, s",
        "matrix products, examples/s", "matrix products / fit", "loading, s", "first call, s",
        "both epochs and set-up, s", "peak memory, GB",
    )  # fmt: skip
    return [head, *(_fit_row(m, words_of(m.data), names(m)) for m in run.of("fit"))]


def _geoopt(run: Run) -> list[Sequence[Cell]]:
    rows: list[Sequence[Cell]] = [
        ("model", "data", "device", "threads", "examples/s", "ours / this", "loss, first to last")
    ]
    ours = {
        (m.data, m.device, m.threads): m.result["examples_per_second"]
        for m in run.of("fit")
        if m.options.get("aggregator") == "learned"
    }
    for m in run.of("geoopt"):
        rate = m.result["examples_per_second"]
        own = ours.get((m.data, m.device, m.threads))
        loss = f"{m.result['first_loss']:.2f} to {m.result['last_loss']:.2f}"
        factor = None if own is None else own / rate
        rows.append((names(m), words_of(m.data), m.device, m.threads, rounded(rate), factor, loss))
    return rows


def _race(run: Run) -> list[Sequence[Cell]]:
    rows: list[Sequence[Cell]] = [
        ("model", "seconds", "HR@10", "NDCG@10", *(f"s to {t:.2f}" for t in THRESHOLDS))
    ]
    for m in run.of("race"):
        curve = m.result["curve"]
        end = curve[-1]
        times = (reached(curve, threshold) for threshold in THRESHOLDS)
        cells = ("never" if seconds is None else f"{seconds:.2f}" for seconds in times)
        quality = (f"{end['hr_at_10']:.4f}", f"{end['ndcg_at_10']:.4f}")
        rows.append((names(m), f"{end['seconds']:.2f}", *quality, *cells))
    return rows


def _interactions(run: Run) -> list[Sequence[Cell]]:
    rows: list[Sequence[Cell]] = [
        ("interactions", "device", "threads", "loading, s", "epoch, s", "examples/s",
         "time for twice as many", "peak memory, GB")
    ]  # fmt: skip
    before: Measurement | None = None
    for m in run.of("interactions"):
        seconds, growth = m.result["epoch_seconds"][-1], None
        if before is not None and before.device == m.device:
            doublings = math.log2(interactions(m) / interactions(before))
            growth = (seconds / before.result["epoch_seconds"][-1]) ** (1.0 / doublings)
        rows.append(
            (millions(interactions(m)), m.device, m.threads, m.result["load_seconds"], seconds,
             rounded(m.result["examples_per_second"]), growth, _gigabytes(m))
        )  # fmt: skip
        before = m
    return rows


def _scaled(group: str, heading: str, value: Callable[[Measurement], int]) -> Any:
    def table(run: Run) -> list[Sequence[Cell]]:
        rows: list[Sequence[Cell]] = [
            (heading, "interactions", "device", "threads", "epoch, s", "examples/s",
             "matrix products / fit", "peak memory, GB")
        ]  # fmt: skip
        rows += [
            (value(m), millions(interactions(m)), m.device, m.threads,
             m.result["epoch_seconds"][-1], rounded(m.result["examples_per_second"]),
             m.result["floor_to_fit"], _gigabytes(m))
            for m in run.of(group)
        ]  # fmt: skip
        return rows

    return table


PHASES = ("loading", "packing", "step", "candidates", "validation", "evaluation")
"""What a profile tells apart; see `phases`."""


def phases(measurement: Measurement) -> dict[str, float]:
    """Seconds by phase; an epoch is packing and steps, the step what it takes beyond packing."""
    result = measurement.result
    found = {name: result[name] for name in PHASES if name in result}
    return found | {"step": max(0.0, result["epoch"] - result["packing"])}


def _profile(run: Run) -> list[Sequence[Cell]]:
    rows: list[Sequence[Cell]] = [("data", *(f"{name}, s" for name in PHASES), "epoch, s")]
    for m in run.of("profile"):
        found = phases(m)
        rows.append((words_of(m.data), *(found.get(name) for name in PHASES), m.result["epoch"]))
    return rows


def _scoring(run: Run) -> list[Sequence[Cell]]:
    rows: list[Sequence[Cell]] = [("what", "seconds", "an epoch of training, s", "to the epoch")]
    asos = [m.result["epoch_seconds"][-1] for m in run.of("interactions") if m.device == "cpu"]
    for m in run.of("scoring"):
        seconds = m.result["seconds"]
        if m.kind == "similar":
            what = f"top {m.result['k']} similar items of {m.result['items']:,}, d = 50"
            epoch = asos[-1] if asos else None
        else:
            what = f"ranking {m.result['labels']:,} labels of {m.data} among all items"
            epoch = m.result["epoch_seconds"]
        rows.append((what, seconds, epoch, None if epoch is None else seconds / epoch))
    return rows


def _first_call(run: Run) -> list[Sequence[Cell]]:
    rows: list[Sequence[Cell]] = [
        ("compiled code", "device", "first fit of a process, s", "second, s")
    ]
    for m in run.of("first call"):
        kept = "none kept" if m.options["fresh_cache"] else "kept on disk"
        rows.append((kept, m.device, m.result["first_seconds"], m.result["second_seconds"]))
    return rows


def _fit_row(m: Measurement, *who: str) -> Sequence[Cell]:
    result = m.result
    return (
        *who, m.device, m.threads, rounded(result["examples_per_second"]),
        result["epoch_seconds"][-1], rounded(result["floor_examples_per_second"]),
        result["floor_to_fit"], result["load_seconds"], result["first_call_seconds"],
        result["fit_seconds"], _gigabytes(m),
    )  # fmt: skip


def _many(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def rounded(rate: float) -> int:
    """To three digits: a rate is not measured better."""
    return int(float(f"{rate:.3g}"))


def _gigabytes(m: Measurement) -> str:
    on_device = m.result.get("device_bytes", 0)
    return f"{m.peak_bytes / 1e9:.3g}" + (f" + {on_device / 1e9:.3g} on GPU" if on_device else "")


def _markdown(rows: Iterable[Sequence[Cell]]) -> list[str]:
    head, *body = ([shown(cell) for cell in row] for row in rows)
    lines = (head, ["---"] * len(head), *body)
    return ["| " + " | ".join(line) + " |" for line in lines]


_FIT = (
    "One epoch from the histories in memory to the model, the second of two; d = 50, 100 shared "
    "negatives, 1,024 labels a step. The matrix products are the three of a step and nothing else, "
    "in the same process and on the same threads."
)
_TABLES: tuple[tuple[str, str, Callable[[Run], list[Sequence[Cell]]]], ...] = (
    ("Fit", _FIT, _fits),
    (
        "The same model with geoopt",
        "Autograd and geoopt's optimisers, as many labels and negatives a step; labels shuffled "
        "one by one, where ours keep neighbouring ones of a history together.",
        _geoopt,
    ),
    (
        "Accuracy by time",
        "Leave-one-out, 100 uniform negatives; seconds of training, judging not counted. A time to "
        "a given NDCG@10 is that of the first epoch (of ours) or of the first whole fit (of "
        "implicit's) that has it. implicit trains on one thread.",
        _race,
    ),
    (
        "Interactions",
        "28 a user, one epoch; the time for twice as many is against the row above, 2 where growth "
        "is linear.",
        _interactions,
    ),
    ("Items", "One epoch of synthetic histories.", _scaled("items", "items", catalogue)),
    (
        "Dimensions and threads",
        "One epoch of synthetic histories.",
        _scaled("dimensions", "d", width),
    ),
    (
        "Where the time goes",
        "Each phase once, an epoch of training; the step is what an epoch takes beyond packing "
        "alone.",
        _profile,
    ),
    ("Scoring", "Against one epoch of training in the same run.", _scoring),
    ("First call", "Loading and fitting a thousand labels, compilation included.", _first_call),
)
