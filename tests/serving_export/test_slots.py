"""The promotion protocol as pure changes of a value, under every order of events."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from serving_export import slots
from serving_export.errors import ExportError, HeldByAnotherError, NothingPublishedError
from serving_export.slots import Control, Loading

NOW = datetime(2026, 1, 5, 3, 0, tzinfo=UTC)


def wanted(load: str, version: str = "v1") -> Loading:
    return Loading("", version, "run", f"host:1:{load}", None, load, NOW)


def begin(control: Control, load: str, *, version: str = "v1", now: datetime = NOW) -> Control:
    return slots.begin_load(control, wanted(load, version), now=now, abandoned=False)


def promote(control: Control, load: str) -> Control:
    facts = {"model": {"d": 2}, "items": 3, "checksum": "c", "metrics": {}, "who": "me"}
    return slots.promote(control, load, now=NOW, **facts)  # type: ignore[arg-type]


def published(*versions: str) -> Control:
    control = Control()
    for version in versions:
        control = promote(begin(control, f"load {version}", version=version), f"load {version}")
    return control


def test_a_model_that_the_document_cannot_hold_twice_is_refused() -> None:
    slots.require_room({"lag_weights": [0.123456789] * 50_000}, "v1")
    with pytest.raises(ExportError, match=r"version v1 is described by .* smaller model\.lags or"):
        slots.require_room({"lag_weights": [0.123456789] * 90_000}, "v1")


class Protocol(RuleBasedStateMachine):
    """Loads that start, are renewed, die, wake up late and finish, and rollbacks, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.control = Control()
        self.now = NOW
        self.loads: list[str] = []
        self.contents: dict[str, str] = {}  # slot -> load that wrote it last

    @rule(seconds=st.integers(0, 40))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(abandoned=st.booleans())
    def begin(self, abandoned: bool) -> None:
        load = f"load {len(self.loads)}"
        held = self.control.loading
        try:
            self.control = slots.begin_load(
                self.control, wanted(load, load), now=self.now, abandoned=abandoned
            )
        except HeldByAnotherError as refusal:
            assert held is not None and not abandoned and held.expires_at > self.now
            assert held.holder in str(refusal)
            return
        assert held is None or abandoned or held.expires_at <= self.now
        self.loads.append(load)
        assert self.control.loading is not None
        self.contents[self.control.loading.slot] = load

    @precondition(lambda self: self.loads)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        load = data.draw(st.sampled_from(self.loads))
        held = self.control.loading
        try:
            self.control = slots.renew(self.control, load, now=self.now)
        except ExportError:
            assert held is None or held.load != load

    @precondition(lambda self: self.loads)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        load = data.draw(st.sampled_from(self.loads))
        before = self.control
        try:
            self.control = slots.promote(
                before,
                load,
                model={},
                items=1,
                checksum="",
                metrics={},
                who="me",
                now=self.now,
            )
        except ExportError:
            assert before.loading is None or before.loading.load != load
            return
        assert self.control.active is not None
        if before == self.control:  # its answer had been lost, and perhaps it was rolled back
            assert load in {p.load for p in (before.active, before.previous) if p}
        else:
            assert self.control.active.load == load
            assert self.control.previous == before.active
            assert self.control.events[:-1] == before.events
            event = self.control.events[-1]
            assert (event.action, event.load) == ("promotion", load)
            assert promote(self.control, load) == self.control  # its answer may have been lost

    @precondition(lambda self: self.loads)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        load = data.draw(st.sampled_from(self.loads))
        before = self.control
        self.control = slots.release(before, load)
        assert (self.control.active, self.control.previous) == (before.active, before.previous)

    @precondition(lambda self: self.control.previous)
    @rule()
    def rollback(self) -> None:
        before = self.control
        assert before.previous is not None
        self.control = slots.rollback(before, before.previous, who="me", now=self.now)
        assert self.control.previous == before.active
        assert self.control.loading == before.loading
        assert self.control.events[-1].action == "rollback"
        assert self.control.events[-1].load == before.previous.load
        again = slots.rollback(self.control, before.previous, who="me", now=self.now)
        assert again == self.control

    @rule()
    def events_are_copied(self) -> None:
        self.control = slots.settled(self.control, up_to=self.control.numbered)
        assert self.control.events == ()

    @invariant()
    def events_are_numbered_without_a_gap(self) -> None:
        numbers = [event.number for event in self.control.events]
        last = self.control.numbered
        assert numbers == list(range(last - len(numbers) + 1, last + 1))

    @invariant()
    def slots_are_distinct(self) -> None:
        parts = (self.control.active, self.control.previous, self.control.loading)
        taken = [part.slot for part in parts if part]
        assert len(set(taken)) == len(taken)

    @invariant()
    def what_is_published_was_not_written_over(self) -> None:
        for part in (self.control.active, self.control.previous):
            assert part is None or self.contents[part.slot] == part.load

    @invariant()
    def json_keeps_everything(self) -> None:
        body = json.loads(json.dumps(slots.to_json(self.control)))
        assert slots.from_json(body) == self.control


TestProtocol = Protocol.TestCase


def test_first_load_goes_to_the_first_slot_and_the_fourth_reuses_it() -> None:
    control = published("v1", "v2", "v3", "v4")
    assert control.active is not None and control.previous is not None
    assert (control.active.slot, control.previous.slot) == ("a", "c")


def test_a_live_holder_is_named() -> None:
    control = begin(Control(), "one")
    with pytest.raises(HeldByAnotherError, match="host:1:one is loading version v1") as refusal:
        begin(control, "two", now=NOW + timedelta(seconds=29))
    assert refusal.value.holder == "host:1:one"
    assert begin(control, "two", now=NOW + timedelta(seconds=30)).loading != control.loading


def test_a_load_that_lost_its_lease_never_goes_live() -> None:
    control = begin(Control(), "one")
    control = begin(control, "two", now=NOW + timedelta(minutes=1))
    with pytest.raises(HeldByAnotherError, match="host:1:two took over"):
        promote(control, "one")
    with pytest.raises(ExportError, match="was released"):
        promote(slots.release(control, "two"), "one")


class OverruledError(Exception):
    pass


def test_a_guard_is_asked_about_the_state_that_is_replaced() -> None:
    before = begin(published("v1"), "new", version="v2")
    asked = []

    def refuse(control: Control) -> None:
        asked.append(control)
        raise OverruledError

    facts = {"model": {}, "items": 3, "checksum": "c", "metrics": {}, "who": "me", "now": NOW}
    with pytest.raises(OverruledError):
        slots.promote(before, "new", guard=refuse, **facts)  # type: ignore[arg-type]
    assert asked == [before]
    live = promote(before, "new")
    # Its answer may have been lost: what is live already is not asked for again.
    assert slots.promote(live, "new", guard=refuse, **facts) == live  # type: ignore[arg-type]


def test_publishing_a_damaged_version_again_keeps_the_way_back() -> None:
    before = published("v1", "v2")
    after = promote(begin(before, "again", version="v2"), "again")
    assert after.active is not None and after.active.version == "v2"
    assert after.previous == before.previous


def test_a_rollback_decided_on_an_old_state_is_refused() -> None:
    seen = published("v1", "v2").previous
    assert seen is not None
    with pytest.raises(NothingPublishedError, match="another promotion came in between"):
        slots.rollback(published("v1", "v2", "v3"), seen, who="me", now=NOW)


def test_a_control_document_of_another_format_is_refused() -> None:
    body = slots.to_json(published("v1"))
    with pytest.raises(ExportError, match="format 2"):
        slots.from_json(body | {"format": 2})
    with pytest.raises(ExportError, match="damaged"):
        slots.from_json(body | {"active": {"slot": "a"}})


def test_metrics_and_model_are_kept_as_given() -> None:
    control = begin(Control(), "one")
    control = slots.promote(
        control,
        "one",
        model={"aggregator": {"lag_weights": [1.0, 0.5]}},
        items=1,
        checksum="c",
        metrics={"hr@10": 0.75},
        who="night job",
        now=NOW,
    )
    assert control.active is not None
    assert control.active.metrics == {"hr@10": 0.75}
    assert control.active.promoted_by == "night job"
    assert control.active.promoted_at == NOW
