"""The picture of a run: speed, accuracy by time, scaling and where the time goes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tests.benchmarks import tables
from tests.benchmarks.case import Measurement, Run

_OURS, _FLOOR, _TWIN = "#1f77b4", "#7f7f7f", "#d62728"
_PEERS = {"als": "#2ca02c", "bpr": "#ff7f0e"}


def draw(run: Run, path: Path) -> None:
    """Write a PNG of all panels that have something to show."""
    panels: tuple[tuple[str, Callable[[Axes, list[Measurement]], None]], ...] = (
        ("fit", lambda axes, found: _speed(axes, found, list(run.of("geoopt")))),
        ("race", _race),
        ("interactions", _interactions),
        ("items", _items),
        ("dimensions", _dimensions),
        ("profile", _profile),
    )
    filled = [(panel, found) for group, panel in panels if (found := list(run.of(group)))]
    figure = Figure(figsize=(14.0, 4.4 * max(1, -(-len(filled) // 2))), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(run.machine.get("hardware", ""))
    for number, (panel, found) in enumerate(filled, start=1):
        panel(figure.add_subplot(-(-len(filled) // 2), 2, number), found)
    figure.savefig(path, dpi=110)


def _speed(axes: Axes, fits: list[Measurement], twins: list[Measurement]) -> None:
    bars: list[tuple[str, float, str]] = []
    for m in fits:
        data = f"{tables.words_of(m.data)}, {_where(m)}"
        if m.options["aggregator"] == "learned":
            floor = m.result["floor_examples_per_second"]
            bars.append((f"matrix products alone, beside {data}", floor, _FLOOR))
        bars.append((f"{tables.names(m)}, {data}", m.result["examples_per_second"], _OURS))
    for m in twins:
        data = f"{tables.words_of(m.data)}, {_where(m)}"
        bars.append((f"{tables.names(m)}, {data}", m.result["examples_per_second"], _TWIN))
    labels, rates, colours = zip(*reversed(bars), strict=True)
    drawn = axes.barh(labels, [rate / 1e6 for rate in rates], color=colours)
    axes.bar_label(drawn, fmt="%.2f", fontsize=7, padding=2)
    axes.margins(x=0.1)
    axes.tick_params(axis="y", labelsize=7)
    axes.set(title="Training speed, d = 50, 100 negatives", xlabel="million examples / s")


def _race(axes: Axes, found: list[Measurement]) -> None:
    for m in found:
        curve = m.result["curve"]
        seconds = [p["seconds"] for p in curve]
        quality = [p["ndcg_at_10"] for p in curve]
        peer = m.options.get("model")
        style = "-" if m.threads == 1 else "--"
        colour = _PEERS[peer] if peer else _OURS
        axes.plot(seconds, quality, style, marker="o", markersize=3, color=colour)
    kinds = {"hyperrec, 1 thread": (_OURS, "-"), "hyperrec, more threads": (_OURS, "--")}
    kinds |= {f"implicit {name.upper()}, 1 thread": (c, "-") for name, c in _PEERS.items()}
    for label, (colour, style) in kinds.items():
        axes.plot([], [], style, color=colour, label=label)
    axes.set_xscale("log")
    axes.legend(fontsize=8)
    data = tables.words_of(found[0].data)
    axes.set(
        title=f"Accuracy by training time, {data} (a line a setting)",
        xlabel="training time, s",
        ylabel="NDCG@10, 100 negatives",
    )


def _interactions(axes: Axes, found: list[Measurement]) -> None:
    for where, some in _by_place(found).items():
        x = [tables.interactions(m) / 1e6 for m in some]
        y = [m.result["epoch_seconds"][-1] for m in some]
        axes.plot(x, y, marker="o", label=f"one epoch, {where}")
        axes.plot(x, [y[0] * value / x[0] for value in x], ":", color="grey")
    axes.plot([], [], ":", color="grey", label="linear growth")
    _log(axes, x=sorted({tables.interactions(m) / 1e6 for m in found}))
    axes.set_yscale("log")
    axes.legend(fontsize=8)
    axes.set(title="Growth with interactions", xlabel="interactions, millions", ylabel="time, s")


def _items(axes: Axes, found: list[Measurement]) -> None:
    for where, some in _by_place(found).items():
        rates = [m.result["examples_per_second"] / 1e6 for m in some]
        axes.plot([tables.catalogue(m) for m in some], rates, marker="o", label=where)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)
    axes.set(title="Growth with items", xlabel="items", ylabel="million examples / s")


def _dimensions(axes: Axes, found: list[Measurement]) -> None:
    for where, some in _by_place(found).items():
        d = [tables.width(m) for m in some]
        (line,) = axes.plot(
            d, [m.result["examples_per_second"] / 1e6 for m in some], marker="o", label=where
        )
        floors = [m.result["floor_examples_per_second"] / 1e6 for m in some]
        axes.plot(d, floors, ":", color=line.get_color(), label=f"matrix products alone, {where}")
    _log(axes, x=sorted({tables.width(m) for m in found}))
    axes.set_yscale("log")
    axes.legend(fontsize=8)
    axes.set(title="Dimensions and threads", xlabel="d", ylabel="million examples / s")


def _profile(axes: Axes, found: list[Measurement]) -> None:
    labels = [f"{tables.words_of(m.data)}, {_where(m)}" for m in found]
    totals = [sum(tables.phases(m).values()) for m in found]
    left = [0.0] * len(found)
    for name in tables.PHASES:
        shares = [
            100.0 * tables.phases(m).get(name, 0.0) / total
            for m, total in zip(found, totals, strict=True)
        ]
        axes.barh(labels, shares, left=left, label=name)
        left = [start + share for start, share in zip(left, shares, strict=True)]
    axes.legend(fontsize=8, ncols=3, loc="upper center")
    axes.set_ylim(-0.6, len(found) + 0.4)
    axes.set(title="Where the time goes, with one epoch", xlabel="share of the time, %")


def _log(axes: Axes, *, x: Sequence[float]) -> None:
    """A logarithmic axis that names the values that were measured."""
    axes.set_xscale("log")
    axes.set_xticks(x, [f"{value:g}" for value in x])
    axes.minorticks_off()


def _by_place(found: list[Measurement]) -> dict[str, list[Measurement]]:
    places: dict[str, list[Measurement]] = defaultdict(list)
    for m in found:
        places[_where(m)].append(m)
    return places


def _where(m: Measurement) -> str:
    if m.device == "cuda":
        return "GPU"
    return "1 thread" if m.threads == 1 else f"{m.threads} threads"
