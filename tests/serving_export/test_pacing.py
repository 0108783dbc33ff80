"""The request unit budget of a process, on a clock that only the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from serving_export import pacing
from serving_export.errors import ExportError
from serving_export.pacing import Budget, Pace


class Clock:
    """Time that passes by sleeping alone."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pacing, "time", clock)
    monkeypatch.setattr(pacing.asyncio, "sleep", clock.sleep)
    return clock


def spend(budget: Budget, requests: int, charge: float) -> None:
    async def work() -> None:
        for _ in range(requests):
            budget.settle(await budget.turn(), charge)

    asyncio.run(work())


def test_no_more_is_spent_than_the_budget_and_its_burst(clock: Clock) -> None:
    began = clock.now
    spend(Budget(100.0, burst_seconds=2.0), requests=300, charge=10.0)
    # 3,000 RU at 100 RU/s, less two seconds saved up; a request may go into debt.
    assert clock.now - began == pytest.approx(3000 / 100 - 2, abs=0.5)


def test_without_a_limit_nothing_waits(clock: Clock) -> None:
    began = clock.now
    spend(Budget(None, burst_seconds=1.0), requests=1000, charge=50.0)
    assert clock.now == began


def test_many_writers_reserve_before_they_are_charged(clock: Clock) -> None:
    budget = Budget(100.0, burst_seconds=1.0)
    sent: list[float] = []

    async def work() -> None:
        for _ in range(50):
            reserved = await budget.turn()
            sent.append(clock.now)
            await asyncio.sleep(0.0)
            budget.settle(reserved, 8.0)

    async def all_at_once() -> None:
        await asyncio.gather(*(work() for _ in range(8)))

    asyncio.run(all_at_once())
    seconds = sent[-1] - sent[0]
    assert len(sent) * 8.0 <= 100.0 * (seconds + 1.0) + 2 * 8.0


def test_a_refused_request_gives_its_units_back_and_all_wait_as_told(clock: Clock) -> None:
    budget = Budget(1000.0, burst_seconds=1.0)
    began = clock.now

    async def work() -> None:
        reserved = await budget.turn()
        budget.throttled(retry_after=3.0)
        budget.settle(reserved, 0.0)
        await budget.turn()

    asyncio.run(work())
    assert clock.now - began == pytest.approx(3.0)
    assert budget.rate == 1000.0


def throttle(budget: Budget, clock: Clock, *, allows: Callable[[], bool], seconds: float) -> float:
    """Requests of 10 RU for some time against a service that refuses; RU that it took."""
    taken = 0.0
    end = clock.now + seconds

    async def work() -> None:
        nonlocal taken
        while clock.now < end:
            reserved = await budget.turn()
            clock.now += 0.002
            if allows():
                taken += 10.0
                budget.settle(reserved, 10.0)
            else:
                budget.throttled(retry_after=0.001)
                budget.settle(reserved, 0.0)

    asyncio.run(work())
    return taken


def test_a_service_that_refuses_often_is_asked_less_and_more_again_by_and_by(clock: Clock) -> None:
    budget = Budget(None, burst_seconds=1.0)
    asked = 0

    def one_in_two() -> bool:
        nonlocal asked
        asked += 1
        return asked % 2 == 0

    throttle(budget, clock, allows=one_in_two, seconds=2.0)
    slowed = budget.rate
    assert slowed is not None and slowed < 2500.0
    throttle(budget, clock, allows=lambda: True, seconds=30.0)
    assert budget.rate is not None and budget.rate > 3 * slowed


def test_a_few_refusals_do_not_slow_anything(clock: Clock) -> None:
    budget = Budget(2000.0, burst_seconds=1.0)
    asked = 0

    def nine_in_ten() -> bool:
        nonlocal asked
        asked += 1
        return asked % 10 != 0

    throttle(budget, clock, allows=nine_in_ten, seconds=20.0)
    assert budget.rate == 2000.0


def test_processes_share_the_budget() -> None:
    assert Pace(processes=4, request_units=1000.0).budget(share=4).rate == 250.0
    assert Pace().budget(share=4).rate is None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"processes": 0}, "0 writing processes"),
        ({"request_units": 0.0}, "0 RU/s"),
        ({"request_units": float("inf")}, "inf RU/s"),
        ({"burst_seconds": -1.0}, "burst of -1 s"),
        ({"throughput_bucket": 6}, "no throughput bucket 6"),
    ],
)
def test_a_pace_out_of_range_is_refused(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(ExportError, match=said):
        Pace(**wrong)  # type: ignore[arg-type]
