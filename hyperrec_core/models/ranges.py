"""Ranges of a model's settings, each with its one sentence."""

from __future__ import annotations

import math


def at_least(least: int, config: object, *names: str) -> None:
    """Raise `ValueError` for the first of these settings that is below a number."""
    for name in names:
        if getattr(config, name) < least:
            raise ValueError(
                f"model.{name} is {getattr(config, name)}; it must be at least {least}."
            )


def share(config: object, *names: str) -> None:
    """Raise `ValueError` for the first of these settings that is not above 0 and at most 1."""
    for name in names:
        if not 0 < getattr(config, name) <= 1:
            raise ValueError(
                f"model.{name} is {getattr(config, name)}; it must be above 0 and at most 1."
            )


def above_zero(config: object, *names: str) -> None:
    """Raise `ValueError` for the first of these settings that is not above 0, or not finite."""
    for name in names:
        if not 0 < getattr(config, name) < math.inf:
            raise ValueError(f"model.{name} is {getattr(config, name)}; it must be above 0.")


def not_below_zero(config: object, *names: str) -> None:
    """Raise `ValueError` for the first of these settings that is below 0, or not finite."""
    for name in names:
        if not 0 <= getattr(config, name) < math.inf:
            raise ValueError(f"model.{name} is {getattr(config, name)}; it must not be below 0.")
