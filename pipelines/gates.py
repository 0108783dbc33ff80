"""Gates: from plain numbers to verdicts on whether a model may be published.

A verdict passes, warns (a person must approve the run first) or refuses. Every gate here is a pure
function; the numbers are brought by the evaluate stage and, where another version has become active
meanwhile, by the export stage. A verdict holds the numbers and limits that it was made of, and says
them in a sentence without its full stop.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.errors import GateRefusedError
from pipelines.gate_limits import GateConfig, Limits, Outcome

if TYPE_CHECKING:
    from hyperrec_core.compare import Difference
    from hyperrec_core.soundness import Soundness
    from pipelines.preprocess.limits import Verdict as InputVerdict

NEVER_FORCED = frozenset({"finite", "on_sheet", "servable"})
"""Gates that nobody overrides: what they refuse would break readers, not only please users less."""

AGAINST_ACTIVE = frozenset({"active", "catalogue", "quarantine"})
"""Gates that hold a run against the active version; when that changes, they are asked anew."""

METRICS = {"hr_at_10": "HR@10", "ndcg_at_10": "NDCG@10"}
"""What models are judged by: among the sampled negatives."""

_GRAVITY: tuple[Outcome, ...] = ("pass", "warn", "refuse")

Numbers = Mapping[str, float | int | str | None]


@dataclass(frozen=True)
class Verdict:
    """What one gate says.

    Attributes:
        gate: its name.
        outcome: pass, warn or refuse.
        reason: a sentence with the numbers, without its full stop.
        numbers: what it was judged by, and the limits.
    """

    gate: str
    outcome: Outcome
    reason: str
    numbers: Numbers


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The gravest of some outcomes; pass of none."""
    return max(outcomes, key=_GRAVITY.index, default="pass")


def gravest_first(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Verdicts as a person should read them; those as grave as each other keep their order."""
    return sorted(verdicts, key=lambda each: _GRAVITY.index(each.outcome), reverse=True)


def verdicts_of(judged: Mapping[str, Any]) -> list[Verdict]:
    """The verdicts in the metrics of an evaluate manifest, also of one that only said passed."""
    return [
        Verdict(
            gate=each["gate"],
            outcome=each["outcome"]
            if "outcome" in each
            else ("pass" if each["passed"] else "refuse"),
            reason=each["reason"],
            numbers=each.get("numbers", {}),
        )
        for each in judged["verdicts"]
    ]


def require_not_refused(run_id: str, verdicts: Iterable[Verdict], *, forced: bool) -> None:
    """Raise `GateRefusedError` where a gate refused, unless it is one that force goes for."""
    refused = [each for each in verdicts if each.outcome == "refuse"]
    final = [each for each in refused if each.gate in NEVER_FORCED]
    if not refused or (forced and not final):
        return
    reasons = "; ".join(each.reason for each in (final if forced else refused))
    hint = ""
    if not final:
        hint = f"; `hyperrec approve {run_id} --force --why REASON` lets it out all the same"
    raise GateRefusedError(
        f"Run {run_id} is not published, the active version stays: {reasons}{hint}."
    )


def finite(found: Soundness) -> Verdict:
    """Whether every published number is one."""
    numbers = {"items": found.items, "rows_not_finite": found.not_finite}
    if found.not_finite:
        reason = f"{found.not_finite:,} of the published vectors hold a number that is not finite"
        return Verdict("finite", "refuse", reason, numbers)
    return Verdict("finite", "pass", "all published numbers are finite", numbers)


def servable(*, users: str) -> Verdict:
    """Whether a reader can make a user of any history."""
    if users == "table":
        reason = (
            "the model knows the users of its training alone, so it is judged but not served "
            "(set train.model.users to midpoint)"
        )
        return Verdict("servable", "refuse", reason, {"users": users})
    return Verdict("servable", "pass", "a user can be made of any history", {"users": users})


def on_sheet(found: Soundness, limits: GateConfig) -> Verdict:
    """Whether every published point is one of its space."""
    residual, limit = found.off_sheet, limits.off_sheet
    numbers = {"residual": residual, "limit": limit}
    if residual is None:
        return Verdict("on_sheet", "pass", "flat space has no sheet to leave", numbers)
    outcome: Outcome = "pass" if residual <= limit else "refuse"
    reason = f"the point farthest off its sheet is so by {residual:.2g}, and {limit:g} is allowed"
    return Verdict("on_sheet", outcome, reason, numbers)


def radius(found: Soundness, limits: GateConfig) -> Verdict:
    """Whether items are nowhere that float32 cannot carry; flat space carries all."""
    curved = found.off_sheet is not None
    levels = limits.largest_radius
    numbers = {**found.radii, "warn": levels.warn, "refuse": levels.refuse}
    if not found.radii:
        return Verdict("radius", "refuse", "no item has a radius: none is finite", numbers)
    outcome = levels.ceiling(found.radii["largest"]) if curved else "pass"
    reason = (
        f"items lie {found.radii['q10']:.2f} to {found.radii['q90']:.2f} from the origin (10 % and "
        f"90 %), the farthest {found.radii['largest']:.2f}"
    )
    if curved:
        reason += _levels(levels, "{:g}")
    return Verdict("radius", outcome, reason, numbers)


def at_origin(found: Soundness, limits: GateConfig) -> Verdict:
    """Whether the items have not fallen into one point."""
    levels = limits.at_origin
    reason = f"{found.at_origin:.1%} of the items are at the origin"
    return Verdict(
        "at_origin",
        levels.ceiling(found.at_origin),
        reason + _levels(levels, "{:.1%}"),
        {"share": found.at_origin, "warn": levels.warn, "refuse": levels.refuse},
    )


def labels(found: int, users: int, limits: GateConfig) -> Verdict:
    """Whether there are test labels enough to tell a good model from a lucky one.

    Args:
        found: the number of test labels.
        users: how many users they are of.
        limits: the floor.
    """
    levels = limits.labels
    reason = f"the model is judged by {found:,} test labels of {users:,} users"
    numbers = {"labels": found, "users": users, "warn": levels.warn, "refuse": levels.refuse}
    told = _levels(levels, "{:,.0f}", beyond="below")
    return Verdict("labels", levels.floor(found), reason + told, numbers)


def floors(own: Mapping[str, float], limits: GateConfig) -> list[Verdict]:
    """The metrics against floors of their own, where the profile sets any."""
    found = []
    for name, title in METRICS.items():
        levels = getattr(limits, name)
        if levels.warn is None and levels.refuse is None:
            continue
        reason = f"{title} is {own[name]:.4f}" + _levels(levels, "{:g}", beyond="below")
        numbers = {name: own[name], "warn": levels.warn, "refuse": levels.refuse}
        found.append(Verdict(name, levels.floor(own[name]), reason, numbers))
    return found


def popularity(
    own: Mapping[str, float], popular: Mapping[str, float], ratio: float, *, recent: bool = False
) -> Verdict:
    """The metrics against those of a list of best sellers, of all time or of recent ones.

    Who is below the best sellers of all time is refused; who is below recent ones, which a shop of
    fashions may well be, is looked at by a person.
    """
    needed = {name: ratio * popular[name] for name in METRICS}
    # A metric that is no number is above nothing.
    above = all(own[name] > needed[name] for name in METRICS)
    told = [
        f"{title} {own[name]:.4f} must be above {needed[name]:.4f}"
        for name, title in METRICS.items()
    ]
    numbers: dict[str, float] = {"ratio": ratio}
    for name in METRICS:
        numbers |= {name: own[name], f"{name}_needed": needed[name]}
    return Verdict(
        "recent_popularity" if recent else "popularity",
        "pass" if above else ("warn" if recent else "refuse"),
        f"{' and '.join(told)}, {ratio:g} times {'recent ' if recent else ''}popularity's",
        numbers,
    )


def active(version: str, differences: Mapping[str, Difference], limits: GateConfig) -> Verdict:
    """The metrics against those of the active version's model on the same labels.

    Args:
        version: the active one.
        differences: this model less the active one, by metric.
        limits: the tolerance.
    """
    numbers: dict[str, float | str] = {"version": version, "tolerance": limits.tolerance}
    outcomes: list[Outcome] = []
    told = []
    for name, title in METRICS.items():
        found = differences[name]
        limit = -limits.tolerance * found.b
        outcomes.append(
            "refuse" if found.high < limit else "warn" if found.difference < limit else "pass"
        )
        numbers |= {
            name: found.a,
            f"{name}_active": found.b,
            f"{name}_difference": found.difference,
            f"{name}_low": found.low,
            f"{name}_high": found.high,
            f"{name}_limit": limit,
        }
        told.append(
            f"{title} {found.a:.4f} is {found.difference:+.4f} ({found.low:+.4f} to "
            f"{found.high:+.4f}, not below {limit:+.4f})"
        )
    reason = f"{' and '.join(told)} against the active version {version}"
    return Verdict("active", worst(outcomes), reason, numbers)


def not_compared(outcome: Outcome, why: str, version: str | None) -> Verdict:
    """The verdict of the gate `active` where nothing could be compared."""
    return Verdict("active", outcome, why, {"version": version})


def catalogue(items: int, of_active: int | None, limits: GateConfig) -> Verdict:
    """The number of items to publish against the active version's, None where there is none."""
    levels = limits.shrink
    numbers = {
        "items": items, "active_items": of_active, "warn": levels.warn, "refuse": levels.refuse,
    }  # fmt: skip
    if not of_active:
        return Verdict("catalogue", "pass", f"there are {items:,} items to publish", numbers)
    shrunk = max(0.0, 1.0 - items / of_active)
    reason = f"there are {items:,} items to publish and the active version has {of_active:,}"
    if shrunk:
        reason += f", {shrunk:.1%} fewer{_levels(levels, '{:.0%}')}"
    return Verdict("catalogue", levels.ceiling(shrunk), reason, numbers | {"shrunk": shrunk})


def quarantine(share: float, of_active: float | None, limits: GateConfig) -> Verdict:
    """The share of rows in quarantine against that of the active version's run."""
    levels = limits.quarantine_rise
    numbers = {
        "share": share, "active_share": of_active, "warn": levels.warn, "refuse": levels.refuse,
    }  # fmt: skip
    reason = f"{share:.2%} of the rows are in quarantine"
    if of_active is None:
        return Verdict("quarantine", "pass", reason, numbers)
    rise = share - of_active
    reason += f", {of_active:.2%} in the active version's run"
    reason += _levels(levels, "{:.1%}", beyond="after a rise beyond")
    return Verdict("quarantine", levels.ceiling(rise), reason, numbers | {"rise": rise})


def data(verdicts: Sequence[InputVerdict], limits: GateConfig) -> Verdict:
    """What the data report warned of; the warnings named in `approve_input` need an approval.

    A level `stop` has ended the run before it was trained.
    """
    raised = [each for each in verdicts if each.level != "ok"]
    grave = [each for each in raised if each.name in limits.approve_input]
    numbers = {each.name: each.value for each in verdicts if each.value is not None}
    if not raised:
        return Verdict("input", "pass", "the data report has no warning", numbers)
    if grave:
        told = "; ".join(each.sentence.rstrip(".") for each in grave)
        return Verdict("input", "warn", f"the data report warns: {told}", numbers)
    names = ", ".join(each.name for each in raised)
    reason = f"of what the data report warns of, {names}, nothing needs an approval"
    return Verdict("input", "pass", reason, numbers)


def _levels(levels: Limits, form: str, *, beyond: str = "beyond") -> str:
    """The levels of a limit, in words."""
    named = (("approval needed", levels.warn), ("refused", levels.refuse))
    told = [f"{word} {beyond} {form.format(at)}" for word, at in named if at is not None]
    return f" ({', '.join(told)})" if told else ""
