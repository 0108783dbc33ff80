"""How far a publish is: documents, request units, requests sent again, and the time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_REPORT_SECONDS = 0.2


@dataclass(frozen=True)
class Progress:
    """How far one part of a publish is.

    Attributes:
        doing: "writing", "verifying" or "deleting".
        done: documents finished.
        total: documents in all.
        request_units: charged so far, as the service reports it; 0 where it does not.
        retries: requests that had to be sent again so far, throttled ones among them.
        throttled: requests that the service refused for want of throughput so far.
        seconds: since this part began.
    """

    doing: str
    done: int
    total: int
    request_units: float
    retries: int
    throttled: int
    seconds: float

    @property
    def documents_per_second(self) -> float:
        """Documents finished a second since this part began."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Until this part is done at the rate so far; None before anything is."""
        rate = self.documents_per_second
        return (self.total - self.done) / rate if rate else None

    def __str__(self) -> str:
        words = [
            f"{self.doing}: {self.done:,} of {self.total:,} documents",
            f"{self.documents_per_second:,.0f} documents/s",
            f"{self.request_units / self.seconds if self.seconds > 0 else 0:,.0f} RU/s",
            f"{self.request_units:,.0f} RU",
            f"{self.throttled:,} throttled",
            f"{self.retries:,} sent again",
        ]
        if self.seconds_left is not None:
            words.append(f"{self.seconds_left:,.0f} s left")
        return ", ".join(words)


ProgressCallback = Callable[[Progress], None]


def charge_of(headers: Mapping[str, Any]) -> float:
    """The request units that an answer says it cost."""
    return float(headers.get("x-ms-request-charge", 0) or 0)


class Meter:
    """Counts requests of one part of a publish and reports them a few times a second."""

    def __init__(self, doing: str, total: int, callback: ProgressCallback | None) -> None:
        self._doing = doing
        self._total = total
        self._callback = callback
        self._began = time.monotonic()
        self._reported = 0.0
        self.done = 0
        self.request_units = 0.0
        self.retries = 0
        self.throttled = 0

    def charge(self, headers: Mapping[str, Any], _body: object = None) -> None:
        """Add the request charge of an answer; a response hook of the SDK."""
        self.request_units += charge_of(headers)

    def retried(self, *, throttled: bool) -> None:
        """Count a request that has to be sent again."""
        self.retries += 1
        self.throttled += throttled

    def add(self, *, done: int, request_units: float, retries: int, throttled: int) -> None:
        """Count what another process has done."""
        self.request_units += request_units
        self.retries += retries
        self.throttled += throttled
        self.finished(done)

    def finished(self, count: int = 1) -> None:
        """Count documents that are done."""
        self.done += count
        now = time.monotonic()
        if self._callback and (now - self._reported >= _REPORT_SECONDS or self.done == self._total):
            self._reported = now
            self._callback(
                Progress(
                    self._doing,
                    self.done,
                    self._total,
                    self.request_units,
                    self.retries,
                    self.throttled,
                    now - self._began,
                )
            )
