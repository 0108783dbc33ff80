"""Figure 6 of Chamberlain et al. 2019: how item degrees are distributed, with the fitted law."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from scipy.special import zeta

from hyperrec_core.analysis import datasets, powerlaw_fit, report
from hyperrec_core.analysis.powerlaw_fit import Degrees, Floats, PowerLawFit
from hyperrec_core.analysis.table1 import network, present

_COLUMNS = 4
_DATA, _LAW = "#1f77b4", "#d62728"


def reproduce(data: Path, to: Path) -> report.Report:
    """Draw `figure6.png`, a panel a set, and write the points behind it.

    `figure6.md` and `.csv` hold the fits, `figure6-points.csv` every point and the line's height.

    Args:
        data: folder of data sets.
        to: folder to write in.

    Raises:
        DatasetError: the folder holds no known data set.
    """
    fits = {}
    for name in present(data):
        degrees = network(datasets.load(name, data)).degrees
        fits[name] = degrees, powerlaw_fit.fit(degrees)
    to.mkdir(parents=True, exist_ok=True)
    picture = to / "figure6.png"
    _draw(fits, picture)
    report.write_csv(
        to / "figure6-points.csv",
        ["data set", "degree", "share of items with at least it", "fitted share"],
        [
            (name, int(x), float(y), float(z) if x >= law.xmin else None)
            for name, (degrees, law) in fits.items()
            for x, y, z in zip(*_points(degrees, law), strict=True)
        ],
    )
    return report.save(
        to / "figure6",
        title="Distributions of item degrees",
        columns=["data set", "items", "largest degree", "exponent", "x_min", "items >= x_min"],
        rows=[
            (name, len(degrees), int(degrees.max()), law.alpha, law.xmin, law.tail)
            for name, (degrees, law) in fits.items()
        ],
        notes=["Every point of the picture is in figure6-points.csv."],
        pictures=[picture],
    )


def _points(degrees: Degrees, law: PowerLawFit) -> tuple[Degrees, Floats, Floats]:
    """Distinct degrees, the share of items with at least each, and the law's share for it."""
    values, counts = np.unique(degrees, return_counts=True)
    share = np.cumsum(counts[::-1])[::-1] / len(degrees)
    # The law holds for the items >= xmin, so its line starts at their share.
    fitted = law.tail / len(degrees) * zeta(law.alpha, values) / zeta(law.alpha, law.xmin)
    return values, share, fitted


def _draw(fits: dict[str, tuple[Degrees, PowerLawFit]], path: Path) -> None:
    rows = -(-len(fits) // _COLUMNS)
    figure = Figure(figsize=(11, 0.9 + 2.45 * rows), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, _COLUMNS, sharex=True, sharey=True, squeeze=False)
    for panel, (name, (degrees, law)) in zip(panels.flat, fits.items(), strict=False):
        _panel(panel, name, degrees, law)
    for panel in panels.flat[len(fits) :]:
        panel.set_axis_off()
    for panel in panels.flat[max(len(fits) - _COLUMNS, 0) : len(fits)]:
        panel.tick_params(labelbottom=True)
    figure.supxlabel("item degree x", fontsize=11)
    figure.supylabel("share of items with degree ≥ x", fontsize=11)
    figure.legend(
        *panels.flat[0].get_legend_handles_labels(),
        loc="outside upper center", ncols=3, frameon=False, fontsize=10,
    )  # fmt: skip
    figure.savefig(path)


def _panel(axes: Axes, name: str, degrees: Degrees, law: PowerLawFit) -> None:
    values, share, fitted = _points(degrees, law)
    tail = values >= law.xmin
    axes.loglog(values, share, "o", ms=2.6, mew=0, color=_DATA, alpha=0.75, label="items")
    axes.loglog(
        values[tail], fitted[tail], color=_LAW, lw=1.6, label="power law by maximum likelihood"
    )
    axes.axvline(law.xmin, color="#888888", lw=0.8, ls=(0, (4, 3)), zorder=0, label=r"$x_{\min}$")
    axes.set_title(name, fontsize=9.5)
    axes.text(
        0.05, 0.06, f"α = {law.alpha:.2f}\n$x_{{\\min}}$ = {law.xmin}\n{law.tail:,} items above",
        transform=axes.transAxes, fontsize=8.5, va="bottom", linespacing=1.4,
        path_effects=[withStroke(linewidth=3, foreground="white")],
    )  # fmt: skip
    axes.grid(which="major", color="#e6e6e6", lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
