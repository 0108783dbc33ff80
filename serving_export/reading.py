"""What the two readers have in common besides the questions: settings, and what they say."""

from __future__ import annotations

import logging
from typing import Literal

from serving_export.errors import ExportError, NothingPublishedError, VerificationError
from serving_export.matrix import Matrix

_LOG = logging.getLogger(__name__)

Search = Literal["cosmos", "memory"]

REFRESH_SECONDS = 30.0
PATIENCE_SECONDS = 10.0
# Documents read at once into memory. Decoding a page holds the interpreter's lock, so that long do
# questions wait that are asked meanwhile.
PAGE = 250


def check_settings(search: str, refresh_seconds: float) -> None:
    """Refuse settings that do not fit.

    Raises:
        ExportError: names the setting.
    """
    if search not in ("cosmos", "memory"):
        raise ExportError(f"A reader cannot search in {search!r}; give cosmos or memory.")
    if search == "memory" and not refresh_seconds > 0:
        raise ExportError(
            f"A reader in memory cannot refresh every {refresh_seconds!r} s; give a positive "
            "number."
        )


def pause_after(error: ExportError | None, pause: float, usual: float) -> float:
    """Seconds until the next look for another version.

    One that is not whole is not read over and over: that would cost the request units of a load at
    every interval, for nothing until somebody publishes again.

    Args:
        error: how this look ended.
        pause: seconds before this look.
        usual: `refresh_seconds`.
    """
    return min(2 * pause, 20 * usual) if isinstance(error, VerificationError) else usual


def nothing_active(database: str, endpoint: str) -> NothingPublishedError:
    """The error of a reader that finds no active version."""
    return NothingPublishedError(
        f"No version is active in database {database} at {endpoint}; publish one first."
    )


def log_loaded(loaded: Matrix, seconds: float) -> None:
    """Tell what is in memory now."""
    _LOG.info(
        "version %s is in memory: %d items, %.0f MB, %.1f s",
        loaded.version.version,
        loaded.version.items,
        loaded.memory() / 1e6,
        seconds,
    )
