"""A picture of the items on the Poincaré disc.

A point of the hyperboloid at distance r from the origin is drawn at tanh(r/2) from the centre of
the unit disc, in its own direction. Popular items sit near the centre of a well-fitted model and
niche ones further out, so size and radius should tell the same story; categories should gather in
sectors.
"""

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import IO, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, to_rgba_array
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike, NDArray

_COLOURS: Final = (
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd"),
    *("#8c564b", "#e377c2", "#bcbd22", "#17becf", "#1b3a5c"),
)
_OTHER: Final = "#b8b8b8"
_LINE: Final = "#8a8a8a"
# Where most items stay inside this Euclidean radius, the boundary would frame an empty picture.
_WHOLE_DISC_FROM = 0.85
_SHOWN_SHARE = 0.995
_OUTLINED = 3_000  # from this many items on, white outlines would be all one sees
_MARGIN = 1.04  # of the frame beyond the outermost circle
_LABEL_LENGTH = 26  # letters of a category that fit beside the disc
_ON_SHEET = 1e-3  # how far below 1 rounding may leave a time coordinate

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Placed:
    """Items on the plane: hyperbolic radius, angle, the plane's axes and what these keep.

    `kept` is the share of the variance, None where the plane is all there is.
    """

    radius: Floats
    angle: Floats
    plane: Floats
    kept: float | None


def poincare_disc(
    points: ArrayLike,
    counts: ArrayLike,
    categories: Sequence[Sequence[str] | str | None] | None,
    path: str | PathLike[str] | IO[bytes],
    *,
    title: str,
    users: ArrayLike | None = None,
) -> None:
    """Draws the items on the Poincaré disc and writes the picture as PNG.

    Every item keeps its exact distance to the origin. For d = 2 it keeps its direction too; for
    d > 2 the direction is that of its tangent vector at the origin, log_o(x) = r·xs/|xs|,
    projected on the first two principal axes of all of them (weighted by count), and the caption
    says what share of the variance these keep. When the items fill little of the disc, the
    picture shows its middle, with circles at labelled hyperbolic radii.

    Args:
        points: float[n, d + 1], n >= 1, d >= 2, on the hyperboloid, time coordinate first.
        counts: [n], how often each item occurs, not negative; the dots' size.
        categories: each item's category, as a path (widest first), as its top level alone, or
            None. The ten with most items get a colour, the others are grey. Where no item has a
            category, the colour is the count.
        path: Where the PNG goes, or a binary file to write it to.
        title: Heading of the picture.
        users: Points of some users, float[m, d + 1], drawn as stars over the items.

    Raises:
        ValueError: Shapes do not agree, a value is not finite, or points are not on the sheet.
    """
    place, count = np.asarray(points, np.float64), np.asarray(counts, np.float64)
    _check(place, count, categories)
    placed = _place(place, count)

    figure = Figure(figsize=(10.8, 8.2), dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.02, 0.115, 0.66, 0.825))
    edge = _frame(axes, placed.radius)
    distance = np.tanh(placed.radius / 2)
    shown = np.flatnonzero(distance <= edge)
    order = shown[np.argsort(-count[shown], kind="stable")]  # small dots over large ones
    if categories is None or not any(categories):
        shading = ScalarMappable(LogNorm(1, max(float(count.max()), 10.0)), "viridis")
        colours = shading.to_rgba(np.maximum(count, 1))
        figure.colorbar(shading, cax=figure.add_axes((0.72, 0.42, 0.02, 0.45)), label="count")
    else:
        colours, legend = _colours(categories)
        figure.legend(
            handles=legend, loc="upper left", bbox_to_anchor=(0.69, 0.94), frameon=False,
            title="category (items)", alignment="left", fontsize=9,
        )  # fmt: skip
    axes.scatter(
        (distance * np.cos(placed.angle))[order],
        (distance * np.sin(placed.angle))[order],
        s=_areas(count, len(count))[order],
        c=colours[order],
        alpha=0.8,
        linewidths=0.3 if len(count) < _OUTLINED else 0,
        edgecolors="white",
        zorder=3,
    )
    keys = _size_key(count)
    if users is not None:
        keys.append(_stars(axes, np.asarray(users, np.float64), placed.plane, edge))
    figure.legend(
        handles=keys, loc="lower left", bbox_to_anchor=(0.69, 0.12), frameon=False,
        title="count", alignment="left", fontsize=9, labelspacing=0.9,
    )  # fmt: skip
    figure.suptitle(title, x=0.35, y=0.975, fontsize=13)
    caption = _caption(place.shape[1] - 1, placed, edge)
    figure.text(0.02, 0.015, caption, fontsize=8.5, color="#444444", va="bottom")
    figure.savefig(path, format="png")


def _stars(axes: Axes, users: Floats, plane: Floats, edge: float) -> Line2D:
    """Draws users, each at its own radius and in its direction on the items' plane; their key."""
    if users.ndim != 2 or users.shape[1] != len(plane) + 1 or not np.isfinite(users).all():
        raise ValueError(
            f"A disc of {len(plane)}-dimensional items was given users of shape "
            f"{list(users.shape)} or a coordinate that is not finite; pass one point a user."
        )
    tangent, radius = _tangent(users)
    angle, distance = _angle(tangent, plane), np.tanh(radius / 2)
    inside = distance <= edge
    axes.scatter(
        (distance * np.cos(angle))[inside], (distance * np.sin(angle))[inside],
        s=70, marker="*", c="black", linewidths=0.6, edgecolors="white", zorder=4,
    )  # fmt: skip
    return Line2D([], [], ls="", marker="*", ms=11, mfc="black", mec="white", label="user")


def _check(
    points: Floats, counts: Floats, categories: Sequence[Sequence[str] | str | None] | None
) -> None:
    if points.ndim != 2 or points.shape[0] < 1 or points.shape[1] < 3:
        raise ValueError(
            f"A disc needs points of shape [n, d + 1] with n >= 1 and d >= 2, not "
            f"{list(points.shape)}; pass the item table's vectors."
        )
    if counts.shape != points.shape[:1] or (
        categories is not None and len(categories) != len(points)
    ):
        named = "none" if categories is None else str(len(categories))
        raise ValueError(
            f"A disc of {len(points)} points was given {counts.size} counts and {named} "
            "categories; pass one of each an item, in the same order."
        )
    if not (np.isfinite(points).all() and np.isfinite(counts).all() and (counts >= 0).all()):
        raise ValueError(
            "A disc was given a coordinate or count that is not finite, or a negative count; "
            "draw only a model that passed its gates."
        )
    if (points[:, 0] < 1 - _ON_SHEET).any():
        raise ValueError(
            "A disc was given points whose first coordinate is below 1, which the hyperboloid "
            "has not; pass targets, time first, not the published vectors with its sign turned."
        )


def _place(points: Floats, counts: Floats) -> _Placed:
    """Radius and angle of every item; see `poincare_disc`."""
    tangent, radius = _tangent(points)
    plane, kept = (np.eye(2), None) if tangent.shape[1] == 2 else _plane(tangent, counts)
    return _Placed(radius, _angle(tangent, plane), plane, kept)


def _tangent(points: Floats) -> tuple[Floats, Floats]:
    """Tangent vectors at the origin, log_o(x) = r·xs/|xs|, and the radii r."""
    spatial = points[:, 1:]
    length = np.linalg.norm(spatial, axis=1)
    radius = np.arcsinh(length)
    return spatial * (radius / np.where(length > 0, length, 1.0))[:, None], radius


def _plane(tangent: Floats, counts: Floats) -> tuple[Floats, float]:
    """The first two principal axes, [d, 2], and the share of the variance that they keep."""
    weights = np.maximum(counts, 1)
    centred = tangent - np.average(tangent, axis=0, weights=weights)
    values, axes = np.linalg.eigh(centred.T @ (weights[:, None] * centred) / weights.sum())
    first_two = axes[:, :-3:-1]
    # An eigenvector's sign is arbitrary; a fixed one makes the same model the same picture.
    strongest = first_two[np.abs(first_two).argmax(axis=0), [0, 1]]
    total = values.sum()
    kept = float(values[-2:].sum() / total) if total > 0 else 1.0
    return first_two * np.sign(strongest), kept


def _angle(tangent: Floats, plane: Floats) -> Floats:
    flat = tangent @ plane
    return np.asarray(np.arctan2(flat[:, 1], flat[:, 0]))


def _frame(axes: Axes, radius: Floats) -> float:
    """Draws circles and, where items come near it, the boundary; returns the frame's tanh(r/2)."""
    reach = float(np.quantile(radius, _SHOWN_SHARE)) or 1.0
    whole = np.tanh(reach / 2) >= _WHOLE_DISC_FROM
    edge = 1.0 if whole else float(np.tanh(reach / 2)) * _MARGIN
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.set_xlim(-edge * _MARGIN, edge * _MARGIN)
    axes.set_ylim(-edge * _MARGIN, edge * _MARGIN)
    step = _round_step(reach / 4)
    # On the whole disc, circles beyond 3 would lie on top of one another.
    rings = [1.0, 2.0, 3.0] if whole else np.arange(1, int(reach / step + 1e-9) + 1) * step
    for ring in rings:
        at = float(np.tanh(ring / 2))
        axes.add_patch(Circle((0, 0), at, fill=False, ec=_LINE, lw=0.6, ls=(0, (4, 4)), zorder=1))
        axes.text(
            0, at, f"{ring:.4g}", fontsize=8, color="#333333", ha="center", va="center", zorder=5,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )  # fmt: skip
    axes.plot(0, 0, "+", color="#333333", ms=8, mew=0.8, zorder=4)
    if whole:
        axes.add_patch(Circle((0, 0), 1, fill=False, ec="black", lw=1.2, zorder=2))
    return edge


def _round_step(step: float) -> float:
    """The largest of 1, 2, 2.5 and 5 times a power of ten that is not above ``step``."""
    power = 10.0 ** np.floor(np.log10(step))
    return float(power * max(m for m in (1, 2, 2.5, 5) if m * power <= step * (1 + 1e-9)))


def _areas(counts: Floats, items: int) -> Floats:
    """Dot areas in square points, ~ sqrt(count); smaller where there are more items to show."""
    largest = np.clip(9_000 / np.sqrt(items), 60, 420)
    least = np.clip(1_500 / items, 1.5, 10)
    return np.asarray(least + (largest - least) * np.sqrt(counts / max(counts.max(), 1.0)))


def _colours(categories: Sequence[Sequence[str] | str | None]) -> tuple[Floats, list[Line2D]]:
    """A colour for each item, and the legend of the most common top levels."""
    tops = [(c if isinstance(c, str) else c[0]) if c else "" for c in categories]
    sizes = Counter(top for top in tops if top)
    # Ties by name, so that the colours do not depend on the order of the items.
    named = sorted(sizes, key=lambda top: (-sizes[top], top))[: len(_COLOURS)]
    colour = dict(zip(named, _COLOURS, strict=False))
    legend = [_key(f"{_shortened(top)} ({sizes[top]:,})", colour[top]) for top in named]
    others = len(tops) - sum(sizes[top] for top in named)
    if others:
        legend.append(_key(f"other ({others:,})", _OTHER))
    return np.asarray(to_rgba_array([colour.get(top, _OTHER) for top in tops])), legend


def _shortened(label: str) -> str:
    return label if len(label) <= _LABEL_LENGTH else label[: _LABEL_LENGTH - 1].rstrip() + "…"


def _key(label: str, colour: str, area: float = 50) -> Line2D:
    return Line2D([], [], ls="", marker="o", ms=np.sqrt(area), mfc=colour, mec="white", label=label)


def _size_key(counts: Floats) -> list[Line2D]:
    """Dots of the largest count, a tenth and a hundredth of it, in round numbers."""
    top = float(counts.max())
    values = sorted({_round_step(top / ten) for ten in (100, 10, 1) if top / ten >= 1})
    areas = _areas(np.array([*values, top]), len(counts))
    return [_key(f"{v:,.4g}", "#555555", a) for v, a in zip(values, areas, strict=False)]


def _caption(dimensions: int, placed: _Placed, edge: float) -> str:
    sentences = [
        f"{len(placed.radius):,} items of {dimensions}-dimensional hyperbolic space on the "
        "Poincaré disc, each at tanh(r/2) from the centre, r being its own distance to the origin."
    ]
    if placed.kept is None:
        sentences.append("Directions are as fitted.")
    else:
        sentences.append(
            "Directions are those of the tangent vectors at the origin on their first two "
            f"principal axes (weighted by count), which keep {placed.kept:.1%} of the variance."
        )
    sentences.append("Dashed circles are labelled with r; a dot's area grows with √count.")
    if edge < 1:
        outside = int((np.tanh(placed.radius / 2) > edge).sum())
        sentences.append(
            f"The frame ends at r = {2 * np.arctanh(edge):.3g}, inside the boundary of the "
            + (f"disc; {outside:,} items lie further out." if outside else "disc.")
        )
    return textwrap.fill(" ".join(sentences), 150)
