"""All kinds of dirt and drift, and how much of each is asked for."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from pipelines.errors import UsageError
from pipelines.synthesise.config import CatalogueConfig
from pipelines.synthesise.dirt import columns, drift, files, lines, repeats
from pipelines.synthesise.dirt.site import LATER_DAYS, Kind, Planted, Site
from pipelines.synthesise.latent import Ints

KINDS: Final[Mapping[str, Kind]] = {
    kind.name: kind for module in (columns, lines, repeats, files, drift) for kind in module.KINDS
}


def parse_shares(words: Sequence[str]) -> dict[str, float]:
    """The share of each kind from words SHARE (of every kind) and KIND=SHARE (over that).

    Returns:
        Shares above 0 and at most 1, by kind, in the order of `KINDS`.

    Raises:
        UsageError: a word is neither, names an unknown kind or comes twice.
    """
    given: dict[str, float] = {}
    for word in words:
        name, _, number = word.rpartition("=")
        if name and name not in KINDS:
            close = difflib.get_close_matches(name, KINDS, 1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise UsageError(
                f"There is no kind of dirt {name}{hint}: choose from {', '.join(KINDS)}."
            )
        if name in given:
            raise UsageError(f"--dirt gives a share of {name or 'every kind'} twice; give it once.")
        given[name] = _share(number, word)
    every = given.pop("", 0.0)
    shares = {name: given.get(name, every) for name in KINDS}
    return {name: share for name, share in shares.items() if share > 0}


def _share(number: str, word: str) -> float:
    try:
        share = float(number)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(
            f"--dirt {word} is neither SHARE nor KIND=SHARE with a share from 0 to 1; give one "
            "such as 0.001 or bot=0.001."
        )
    return share


def amount(kind: Kind, share: float, config: CatalogueConfig) -> int:
    """How many rows or files of a kind, or days: at least one."""
    whole = config.interactions if kind.of_rows else config.days
    return max(1, round(share * whole))


def plant(config: CatalogueConfig, name: str, share: float) -> Planted:
    """One kind that has files of its own, from (seed, kind) alone."""
    kind = KINDS[name]
    if kind.plant is None:
        raise ValueError(f"{name} has no files of its own: it is done to the shop's days.")
    return kind.plant(Site(config, name), amount(kind, share, config))


def drift_days(
    config: CatalogueConfig, shares: Mapping[str, float], rows_by_day: Ints | None = None
) -> dict[int, str]:
    """Which of the shop's days drift, and how.

    Args:
        config: the shop.
        shares: of `parse_shares`.
        rows_by_day: int64[days]; where it is given, a day without rows does not drift.

    Returns:
        Kind of drift by number of the day; none is among the last `LATER_DAYS`.

    Raises:
        UsageError: there are not as many days.
    """
    wanted = [
        name
        for name, share in shares.items()
        if KINDS[name].plant is None
        for _ in range(amount(KINDS[name], share, config))
    ]
    usable = np.arange(max(config.days - LATER_DAYS, 0))
    if rows_by_day is not None:
        usable = usable[rows_by_day[: len(usable)] > 0]
    if len(usable) < max(len(wanted), 1):
        raise UsageError(
            f"This --dirt takes {max(len(wanted), 1)} days with events besides the last "
            f"{LATER_DAYS}, and the shop has {len(usable)} of {config.days}; give more --days or "
            "smaller shares."
        )
    days = np.random.default_rng([config.seed, 6]).permutation(usable)
    return dict(zip(days.tolist(), wanted, strict=False))
