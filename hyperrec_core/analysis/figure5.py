"""Figure 5 of Chamberlain et al. 2019: three small simulations on the 2-d hyperboloid.

Users and items are both points (the symmetric model). The loss is BPR (eq. 13) on the Lorentz inner
product, the optimiser exact Riemannian SGD (eq. 20-22) with the paper's settings: learning rate 1,
decay 0.02, initial width 0.01, tangent steps clipped at 1. The paper does not spell out the decay
nor how many points there are; here the rate of step t is 1 / (1 + 0.02 t), and two groups of users
buy half of their group's items each, at random.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from torch import Tensor
from torch.nn.functional import logsigmoid

from hyperrec_core.analysis import report
from hyperrec_core.geometry import lorentz, poincare
from hyperrec_core.midpoint import normalise

log = logging.getLogger(__name__)

_USERS, _ITEMS = 50, 10  # of a group
_OVERLAP = 3  # items that each group of the third simulation shares with the other
_STEPS = 200
_RATE, _DECAY, _WIDTH, _CLIP = 1.0, 0.02, 0.01, 1.0
_SEEDS = range(1, 11)
# A user of an overlapping group may have bought what both buy and little else.
_SEPARATE_FROM = 0.95
_SHARED = -1
_COLOURS = {0: "#1f77b4", 1: "#d62728", _SHARED: "#111111"}


@dataclass(frozen=True)
class Market:
    """Who bought what.

    Attributes:
        title: what is special about it.
        bought: bool [users, items].
        user_groups: 0 or 1, int64 [users].
        item_groups: 0, 1, or -1 for an item that both groups buy, int64 [items].
    """

    title: str
    bought: Tensor
    user_groups: Tensor
    item_groups: Tensor


def markets(seed: int) -> list[Market]:
    """The three simulated markets: disjoint groups, one item for all, overlapping groups."""
    generator = torch.Generator().manual_seed(seed)
    users = torch.arange(2 * _USERS) // _USERS
    made = []
    for title, shared in (
        ("(a) disjoint groups", 0),
        ("(b) disjoint, but for one item that all bought", 1),
        ("(c) overlapping groups", 2 * _OVERLAP),
    ):
        own = _ITEMS - shared // 2
        items = torch.tensor([0] * own + [_SHARED] * shared + [1] * own)
        may = (items == users.unsqueeze(1)) | (items == _SHARED)
        lot = torch.where(may, torch.rand(may.shape, generator=generator), 2.0)
        bought = lot.argsort(1).argsort(1) < may.sum(1, keepdim=True) // 2
        if shared == 1:
            bought[:, items == _SHARED] = True
        made.append(Market(title, bought, users, items))
    return made


def simulate(bought: Tensor, *, seed: int) -> tuple[Tensor, Tensor]:
    """Fit user and item points to purchases.

    A step takes one purchase and one item not bought of every user.

    Args:
        bought: bool [users, items]; every user has bought something, and not everything.
        seed: of the initial points and the draws.

    Returns:
        Points of users and items, float64 [users, 3] and [items, 3].
    """
    generator = torch.Generator().manual_seed(seed)
    users, items = (
        lorentz.from_spatial(
            (torch.rand(size, 2, dtype=torch.float64, generator=generator) - 0.5) * _WIDTH
        )
        for size in bought.shape
    )
    for step in range(_STEPS):
        positive, negative = (
            torch.multinomial(allowed.double(), 1, generator=generator).squeeze(1)
            for allowed in (bought, ~bought)
        )
        u, v = users.clone().requires_grad_(), items.clone().requires_grad_()
        margin = lorentz.inner(u, v[positive]) - lorentz.inner(u, v[negative])
        gradients = torch.autograd.grad(-logsigmoid(margin).sum(), (u, v))
        for points, gradient in zip((users, items), gradients, strict=True):
            tangent = lorentz.riemannian_gradient(points, gradient)
            length = lorentz.tangent_norm(points, tangent).clamp_min(_CLIP).unsqueeze(1)
            rate = _RATE / (1 + _DECAY * step)
            points.copy_(lorentz.exp_map(points, -rate * _CLIP / length * tangent))
    return users, items


def separated(users: Tensor, groups: Tensor) -> float:
    """Share of users that lie nearer to their own group's midpoint than to the other's.

    Args:
        users: points, [n, D].
        groups: 0 or 1, int64 [n].
    """
    centres = torch.stack([normalise(users[groups == group].sum(0)) for group in (0, 1)])
    nearest = lorentz.pairwise_distance(users, centres).argmin(1)
    return float((nearest == groups).double().mean())


@dataclass(frozen=True)
class _Outcome:
    """One fitted simulation: its points, and what the figure claims of them."""

    market: Market
    users: Tensor
    items: Tensor

    @property
    def own_side(self) -> float:
        return separated(self.users, self.market.user_groups)

    @property
    def shared_radius(self) -> float | None:
        """Of the outermost item that both groups buy."""
        radius = lorentz.radius(self.items[self.market.item_groups == _SHARED])
        return float(radius.max()) if len(radius) else None

    @property
    def lead(self) -> float | None:
        """How much further out the innermost other item is."""
        if self.shared_radius is None:
            return None
        others = lorentz.radius(self.items[self.market.item_groups != _SHARED])
        return float(others.min()) - self.shared_radius

    @property
    def as_claimed(self) -> bool:
        """Groups separate; what both buy is nearer to the origin than all else."""
        return self.own_side >= _SEPARATE_FROM and (self.lead is None or self.lead > 0)


def reproduce(data: Path, to: Path) -> report.Report:
    """Draw `figure5.png` of the first seed; tabulate all seeds and whether the claims hold.

    Args:
        data: not read; the data are made up.
        to: folder to write in.
    """
    outcomes = [
        _Outcome(market, *simulate(market.bought, seed=seed))
        for seed in _SEEDS
        for market in markets(seed)
    ]
    to.mkdir(parents=True, exist_ok=True)
    picture = to / "figure5.png"
    titles = list(dict.fromkeys(outcome.market.title for outcome in outcomes))
    _draw(outcomes[: len(titles)], picture)
    _write_points(outcomes[: len(titles)], to / "figure5-points.csv")
    rows: list[list[report.Cell]] = []
    for title in titles:
        runs = [outcome for outcome in outcomes if outcome.market.title == title]
        shared = [run.shared_radius for run in runs if run.shared_radius is not None]
        lead = [run.lead for run in runs if run.lead is not None]
        held = sum(run.as_claimed for run in runs)
        rows.append(
            [
                title,
                min(run.own_side for run in runs),
                max(shared, default=None),
                min(lead, default=None),
                f"{held} of {len(runs)} seeds",
            ]
        )
        log.info("%s: as the paper says with %d of %d seeds", title, held, len(runs))
    return report.save(
        to / "figure5",
        title="Simulations on the 2-d hyperboloid",
        columns=[
            *("simulation", "users on their side", "radius of shared items", "lead of the others"),
            "as claimed",
        ],
        rows=rows,
        notes=[
            "Worst values over the seeds. Users on their side: the share that lies nearer to the "
            "midpoint of their own group than to the other's. Radius of shared items: of the "
            "outermost item that both groups buy; lead of the others: how much further from the "
            "origin the innermost item of one group alone is, in the same simulation. As claimed: "
            f"at least {_SEPARATE_FROM:.0%} of the users on their side, and a positive lead.",
            f"Each group has {_USERS} users; each buys half of the items open to it. "
            f"{_STEPS} steps with one purchase and one negative a user; learning rate {_RATE:g}, "
            f"divided by 1 + {_DECAY:g} t at step t; initial width {_WIDTH:g}; steps clipped at "
            f"{_CLIP:g}. The picture shows seed {_SEEDS[0]}; its points are in figure5-points.csv.",
        ],
        pictures=[picture],
    )


def _write_points(outcomes: list[_Outcome], path: Path) -> None:
    report.write_csv(
        path,
        ["simulation", "kind", "group", "x0", "x1", "x2"],
        [
            (outcome.market.title, kind, "shared" if group == _SHARED else group + 1, *point)
            for outcome in outcomes
            for kind, points, groups in (
                ("user", outcome.users, outcome.market.user_groups),
                ("item", outcome.items, outcome.market.item_groups),
            )
            for point, group in zip(points.tolist(), groups.tolist(), strict=True)
        ],
    )


def _draw(outcomes: list[_Outcome], path: Path) -> None:
    figure = Figure(figsize=(4.1 * len(outcomes), 4.95), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, outcome in zip(figure.subplots(1, len(outcomes)), outcomes, strict=True):
        _disc(axes, outcome)
    key = [("o", 0, 5, "users, group 1"), ("o", 1, 5, "users, group 2")]
    key += [("D", 0, 7, "items, group 1"), ("D", 1, 7, "items, group 2")]
    key += [("*", _SHARED, 13, "items that both groups buy")]
    handles = [
        Line2D([], [], ls="", marker=shape, ms=size, mfc=_COLOURS[group], mec="white", label=text)
        for shape, group, size, text in key
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center", ncols=len(key), frameon=False, fontsize=10,
    )  # fmt: skip
    figure.savefig(path)


def _disc(axes: Axes, outcome: _Outcome) -> None:
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set(xlim=(-1.04, 1.04), ylim=(-1.04, 1.04))
    axes.add_patch(Circle((0, 0), 1, fill=False, ec="black", lw=1.2))
    axes.plot(0, 0, "+", color="#666666", ms=9, mew=0.9, zorder=1)
    axes.set_title(outcome.market.title, fontsize=11, pad=8)
    market = outcome.market
    for points, groups, marker, area in (
        (outcome.users, market.user_groups, "o", 16.0),
        (outcome.items, market.item_groups, "D", 42.0),
    ):
        at = poincare.from_lorentz(points).numpy()
        for group, colour in _COLOURS.items():
            chosen = (groups == group).numpy()
            axes.scatter(
                at[chosen, 0], at[chosen, 1], c=colour, edgecolors="white", lw=0.5, zorder=3,
                marker="*" if group == _SHARED else marker,
                s=150 if group == _SHARED else area,
                alpha=0.65 if marker == "o" else 1.0,
            )  # fmt: skip
