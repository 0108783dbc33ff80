"""How fast a publish may go: its share of the account's request units, and what a 429 changes.

A write's charge is known when it is answered, so a turn reserves what writes have cost so far and
the answer settles the difference. What the service throttles is heard at once by all writers of a
process: they wait as long as it asked for, and when it refuses often they go on a little slower
than it had let them, coming back to the full rate by and by.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass

from serving_export.errors import ExportError

# The service knows buckets 1 to 5 and answers 400 to any other.
_BUCKETS = range(1, 6)

_FIRST_GUESS_RU = 8.0
_SLOWER = 0.9
_FASTER_A_SECOND = 1.05
# A few refusals are waited out; more, and more than this share in a window of time, mean too fast.
_TOLERATED = 8
_TOLERATED_SHARE = 0.2
_WINDOW_SECONDS = 0.5
_MEMORY_SECONDS = 2.0
_UNLIMITED_RU = 1e9
_TICK_SECONDS = 1e-3


@dataclass(frozen=True)
class Pace:
    """What a publish may use.

    Attributes:
        processes: writing processes; the client takes about a millisecond of CPU a write, so one a
            core. Small loads take fewer.
        request_units: request units a second, all processes together; None for no limit of ours.
        burst_seconds: so many seconds' worth may be saved up and spent at once.
        throughput_bucket: the account's throughput bucket, 1 to 5, that requests are counted in.

    Raises:
        ExportError: a value out of range.
    """

    processes: int = 1
    request_units: float | None = None
    burst_seconds: float = 1.0
    throughput_bucket: int | None = None

    def __post_init__(self) -> None:
        if self.processes < 1:
            raise ExportError(f"{self.processes} writing processes cannot write; give at least 1.")
        limit = self.request_units
        if limit is not None and not (limit > 0 and math.isfinite(limit)):
            raise ExportError(
                f"A budget of {limit:g} RU/s allows no writing; give a positive number, or none."
            )
        if not (self.burst_seconds >= 0 and math.isfinite(self.burst_seconds)):
            raise ExportError(
                f"A burst of {self.burst_seconds:g} s is no time; give 0 or more seconds."
            )
        if self.throughput_bucket not in (None, *_BUCKETS):
            raise ExportError(
                f"There is no throughput bucket {self.throughput_bucket}; Cosmos DB has 1 to 5."
            )

    def budget(self, share: int = 1) -> Budget:
        """The budget of one process when so many share it."""
        limit = None if self.request_units is None else self.request_units / share
        return Budget(limit, self.burst_seconds)


class Budget:
    """The request units that one process may spend, in one event loop.

    Args:
        limit: request units a second; None for what the service gives.
        burst_seconds: so many seconds' worth may be saved up.
    """

    def __init__(self, limit: float | None, burst_seconds: float) -> None:
        self._ceiling = _UNLIMITED_RU if limit is None else limit
        self._burst_seconds = burst_seconds
        self._rate = limit
        self._left = (limit or 0.0) * burst_seconds
        self._refilled = time.monotonic()
        self._typical = _FIRST_GUESS_RU
        self._spent_recently = 0.0
        self._spent_at = self._refilled
        self._closed_until = 0.0
        self._window_began = self._refilled
        self._answered = 0
        self._refused = 0

    async def turn(self) -> float:
        """Wait until one more request may be sent.

        Returns:
            The request units reserved for it, to be given to `settle`.
        """
        while (wait := self._wait(time.monotonic())) > 0:
            await asyncio.sleep(wait)
        self._left -= self._typical
        return self._typical

    def settle(self, reserved: float, charge: float) -> None:
        """Replace a reservation by what the request was charged, 0 when it was not done."""
        self._left += reserved - charge
        if charge > 0:
            self._answered += 1
            self._typical += 0.1 * (charge - self._typical)
            now = time.monotonic()
            self._spent_recently = self._recent(now) + charge / _MEMORY_SECONDS
            self._spent_at = now

    def throttled(self, retry_after: float) -> None:
        """Stop all requests for as long as the service asked for; slower when it asks often.

        Args:
            retry_after: seconds.
        """
        now = time.monotonic()
        self._closed_until = max(self._closed_until, now + retry_after)
        self._refused += 1
        if now - self._window_began < _WINDOW_SECONDS:
            return
        tolerated = max(_TOLERATED, _TOLERATED_SHARE * (self._refused + self._answered))
        too_fast = self._refused > tolerated
        self._window_began, self._answered, self._refused = now, 0, 0
        if not too_fast:
            return
        self._refill(now)
        left = 0.0 if self._rate is None else min(self._left, 0.0)
        bases = [rate for rate in (self._rate, self._recent(now)) if rate]
        slower = _SLOWER * min(bases) if bases else self._typical
        # At least a request a second, or nothing would ever be learned of better times.
        self._rate = min(max(slower, self._typical), self._ceiling)
        self._left = left

    @property
    def rate(self) -> float | None:
        """Request units a second allowed now; None when nothing limits them."""
        return self._rate

    def _wait(self, now: float) -> float:
        if now < self._closed_until:
            return self._closed_until - now
        if self._rate is None:
            return 0.0
        self._refill(now)
        # A tick, or rounding might leave a debt too small for any clock to pay off.
        return max(_TICK_SECONDS, -self._left / self._rate) if self._left < 0 else 0.0

    def _refill(self, now: float) -> None:
        passed, self._refilled = now - self._refilled, now
        if self._rate is None:
            return
        if now >= self._closed_until:
            faster = self._rate * _FASTER_A_SECOND ** min(passed, 60.0)
            self._rate = min(faster, self._ceiling)
        self._left = min(self._left + passed * self._rate, self._rate * self._burst_seconds)

    def _recent(self, now: float) -> float:
        """Request units a second of the last few seconds."""
        return self._spent_recently * math.exp((self._spent_at - now) / _MEMORY_SECONDS)
