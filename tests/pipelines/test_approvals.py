"""Which night goes out, which waits for a person and which never does, over a real endpoint."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hyperrec_core import compare
from infra.local.published_keys import COSMOS_KEY
from infra.local.services import cosmos_server
from pipelines.approvals import Approval, approval, approve
from pipelines.cli.stage import export as export_command
from pipelines.errors import (
    ApprovalNeededError,
    CorruptOutputError,
    GateRefusedError,
    OvertakenError,
    PipelineError,
    UsageError,
)
from pipelines.runs import Run
from pipelines.stages import export
from pipelines.stages.export import price_export, run_export
from pipelines.storage import Folder
from serving_export import publish
from serving_export.containers import DATABASE
from serving_export.errors import HeldByAnotherError
from tests.pipelines.judging_support import (
    Nights,
    live,
    off_sheet,
    poisoned,
    shuffled,
    verdicts,
    with_table,
)
from tests.pipelines.test_train_stage import trained
from tests.serving_export.publishing_support import Account
from tests.support import Place

LIVE = "export.live_only=true"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A good model, whose outputs the nights here have for theirs."""
    return trained(tmp_path_factory.mktemp("runs"), "train.epochs=8")


@pytest.fixture
def nights(model: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nights:
    # Intervals need not be exact here, and are most of the time.
    monkeypatch.setattr(compare, "RESAMPLES", 200)
    return Nights(model, Folder(tmp_path / "runs"))


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with cosmos_server(tmp_path_factory.mktemp("cosmos")) as address:
        yield address


@pytest.fixture
def account(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """The endpoint, with nothing published yet."""
    monkeypatch.setenv("COSMOS_ENDPOINT", endpoint)
    found = Account(endpoint, COSMOS_KEY, DATABASE)
    yield found
    found.faults()
    found.drop()


def active(account: Account) -> str:
    found = account.status().active
    assert found is not None
    return str(found.version)


def test_without_a_store_the_comparison_is_left_to_the_export(nights: Nights) -> None:
    run = nights.judged(20)
    metrics = run.require("evaluate").metrics
    assert (metrics["outcome"], metrics["passed"]) == ("pass", True)
    assert metrics["compared_with"] is None
    assert "no Cosmos DB is configured" in verdicts(run)["active"]["reason"]
    assert "active" not in metrics["results"]


def test_nights_follow_each_other_and_are_compared(nights: Nights, account: Account) -> None:
    first = nights.published(0)
    assert "nothing is active yet" in verdicts(first)["active"]["reason"]
    second = nights.judged(1)
    metrics = second.require("evaluate").metrics
    assert metrics["compared_with"] == first.run_id
    numbers = verdicts(second)["active"]["numbers"]
    assert numbers["ndcg_at_10_difference"] == numbers["ndcg_at_10_high"] == 0.0
    # Another night's model of the same points ranks the same labels the same way.
    assert metrics["results"]["active"] == metrics["results"]["model"]
    run_export(second, why="by hand")
    assert active(account) == second.run_id
    (event, _) = publish.history(account.endpoint, account.key)
    assert event.why == "by hand"
    assert any(gate.endswith(f"against the active version {first.run_id}") for gate in event.gates)
    told = {v["gate"]: v for v in event.metrics["verdicts"]}
    assert told["active"]["numbers"] == numbers
    assert event.metrics["model"]["ndcg_at_10"] == metrics["results"]["model"]["ndcg_at_10"]


def test_a_worse_model_is_refused_and_the_active_version_stays(
    nights: Nights, account: Account
) -> None:
    good = nights.published(0)
    bad = nights.judged(1, change=with_table(shuffled))
    told = verdicts(bad)["active"]
    assert told["outcome"] == "refuse"
    assert told["numbers"]["ndcg_at_10_high"] < told["numbers"]["ndcg_at_10_limit"] < 0
    before = account.status()
    with pytest.raises(GateRefusedError, match="is not published, the active version stays: HR"):
        run_export(bad)
    with pytest.raises(GateRefusedError, match=r"approve .* --force"):
        approve(bad, who="anna", why="looks fine")
    assert account.status() == before
    assert bad.manifest("export") is None

    approve(bad, who="anna", why="a trial", force=True)
    run_export(bad)
    assert (active(account), account.status().previous.version) == (bad.run_id, good.run_id)
    (event, _) = publish.history(account.endpoint, account.key)
    assert event.why == "forced by anna: a trial"
    assert event.metrics["approval"]["who"] == "anna"
    assert any(gate.startswith("refuse: HR@10") for gate in event.gates)


@pytest.mark.parametrize(
    ("number", "change", "said"),
    [(30, poisoned, "hold a number that is not finite"), (31, off_sheet, "farthest off its sheet")],
)
def test_what_would_break_readers_is_never_forced(
    number: int, change: Any, said: str, nights: Nights
) -> None:
    run = nights.judged(number, change=with_table(change))
    assert run.require("evaluate").metrics["outcome"] == "refuse"
    with pytest.raises(GateRefusedError, match=said):
        run_export(run)
    with pytest.raises(GateRefusedError, match=said):
        approve(run, who="anna", why="now", force=True)
    assert approval(run) is None


def test_a_shrunken_catalogue_waits_for_a_person(nights: Nights, account: Account) -> None:
    nights.published(0, LIVE)
    half = nights.judged(1, LIVE, change=live(0.4))
    assert verdicts(half)["catalogue"]["outcome"] == "refuse"
    fewer = nights.judged(2, LIVE, change=live(0.8))
    metrics = fewer.require("evaluate").metrics
    assert (metrics["outcome"], metrics["passed"]) == ("warn", True)
    assert price_export(fewer).documents == 48
    before = active(account)
    with pytest.raises(ApprovalNeededError, match=r"20\.0% fewer .* `hyperrec approve .* --why"):
        run_export(fewer)
    assert active(account) == before

    given = approve(fewer, who="anna", why="summer is over")
    assert given.objections == (verdicts(fewer)["catalogue"]["reason"],)
    assert run_export(fewer).metrics["approval"]["why"] == "summer is over"
    (event, *_) = publish.history(account.endpoint, account.key)
    assert (event.version, event.why) == (fewer.run_id, "approved by anna: summer is over")


def test_an_older_night_does_not_overtake(nights: Nights, account: Account) -> None:
    late = nights.judged(0)
    newer = nights.published(1)
    with pytest.raises(OvertakenError, match=f"version {newer.run_id}, .*, is of a later day"):
        run_export(late)
    # Judged when it was late already, it is not held against a model that knows its labels.
    later = nights.judged(0, "seed=2")
    assert "has learned these labels" in verdicts(later)["active"]["reason"]
    with pytest.raises(OvertakenError, match="is of a later day"):
        run_export(later)
    assert active(account) == newer.run_id

    approve(late, who="anna", why="the newer one is odd", force=True)
    run_export(late)
    assert active(account) == late.run_id


def test_another_shops_day_does_not_hold_back_a_run_that_is_not_held_against_it(
    nights: Nights, account: Account
) -> None:
    apart = "evaluate.gates.against_active=false"
    other = replace(nights, source="file:///other")
    newer = nights.published(1, apart)
    for late in (nights.judged(0, apart), other.judged(0)):
        with pytest.raises(OvertakenError, match="is of a later day"):
            run_export(late)
    assert active(account) == newer.run_id
    older = other.published(0, apart)
    assert active(account) == older.run_id


def test_a_night_judged_beside_another_version_is_judged_again(
    nights: Nights, account: Account
) -> None:
    bad, good = nights.judged(1, change=with_table(shuffled)), nights.judged(2)
    assert bad.require("evaluate").metrics["outcome"] == "pass"  # nothing was active yet
    better = nights.published(0)
    with pytest.raises(OvertakenError, match="has become active since it was judged, and is bett"):
        run_export(bad)
    assert active(account) == better.run_id
    told = {v["gate"]: v for v in run_export(good).metrics["verdicts"]}
    assert told["active"]["numbers"]["version"] == better.run_id


def test_the_night_after_a_rollback_goes_out(nights: Nights, account: Account) -> None:
    first = nights.published(0)
    second = nights.published(1)
    third = nights.judged(2)
    account.rollback()
    told = {v["gate"]: v for v in run_export(third).metrics["verdicts"]}
    assert told["active"]["numbers"]["version"] == first.run_id
    assert active(account) == third.run_id
    assert second.run_id not in (active(account), account.status().previous.version)


def test_what_was_rolled_back_does_not_come_back_by_itself(
    nights: Nights, account: Account
) -> None:
    nights.published(0)
    second = nights.published(1)
    # As when the export was killed before its manifest, and given again after the rollback.
    second.storage.delete(f"{second.run_id}/export/manifest.json")
    account.rollback()
    with pytest.raises(ApprovalNeededError, match="it was rolled back by tests at"):
        run_export(second)
    approve(second, who="anna", why="it was not to blame")
    run_export(second)
    assert active(account) == second.run_id


def test_the_command_says_when_a_run_published_before_does_not_serve(
    nights: Nights, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = nights.published(0), nights.published(1)
    export_command(second.run_id, runs=second.storage.url)
    assert "was published before and is active" in capsys.readouterr().out
    account.rollback()
    said = rf"published before, and version {first.run_id} is active.*`hyperrec rollback`"
    with pytest.raises(PipelineError, match=said):
        export_command(second.run_id, runs=second.storage.url)
    nights.published(2)
    with pytest.raises(PipelineError, match=r"such as --set seed=2, is another run"):
        export_command(second.run_id, runs=second.storage.url)
    assert "Published" not in capsys.readouterr().out


def test_an_approval_from_before_the_rollback_does_not_count(
    nights: Nights, account: Account
) -> None:
    nights.published(0)
    second = nights.judged(1)
    approve(second, who="anna", why="early")
    run_export(second)
    second.storage.delete(f"{second.run_id}/export/manifest.json")
    account.rollback()
    with pytest.raises(ApprovalNeededError, match="rolled back"):
        run_export(second)


def test_a_rollback_during_the_load_is_seen_at_the_flip(
    nights: Nights, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = nights.published(0), nights.published(1)
    third = nights.judged(2)
    seen = []

    def load_and_roll_back(*given: Any, **options: Any) -> Any:
        guard = options["guard"]

        def at_the_flip(control: Any) -> None:
            seen.append(control.active.version)
            guard(control)
            if len(seen) == 1:
                account.rollback()  # after the lease is taken, before the flip

        return publish.publish(*given, **options | {"guard": at_the_flip})

    monkeypatch.setattr(export, "publish", load_and_roll_back)
    metrics = run_export(third).metrics
    assert seen[1:] == [first.run_id] * 3  # refused at the flip, then asked again twice
    told = {v["gate"]: v for v in metrics["verdicts"]}
    assert told["active"]["numbers"]["version"] == first.run_id
    assert (active(account), account.status().previous.version) == (third.run_id, first.run_id)


def test_an_active_version_whose_run_is_gone_needs_a_look(nights: Nights, account: Account) -> None:
    gone = nights.published(0, "seed=9")
    for blob in list(gone.storage.list(f"{gone.run_id}/")):
        gone.storage.delete(blob.name)
    run = nights.judged(1)
    told = verdicts(run)["active"]
    assert told["outcome"] == "warn"
    assert f"{gone.run_id} cannot be judged beside this one: There is no run" in told["reason"]
    off = nights.judged(1, "evaluate.gates.against_active=false")
    assert off.require("evaluate").metrics["outcome"] == "pass"


def at_once(*work: Any) -> list[Any]:
    """Results or errors of several calls that begin together."""
    ready, found = threading.Barrier(len(work)), [None] * len(work)

    def do(place: int) -> None:
        ready.wait()
        try:
            found[place] = work[place]()
        except Exception as error:
            found[place] = error

    threads = [threading.Thread(target=do, args=(place,)) for place in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_of_two_approvals_one_wins_and_the_other_is_told(nights: Nights) -> None:
    run = nights.judged(0)
    for _ in range(5):
        run.storage.delete(f"{run.run_id}/approval.json")
        found = at_once(
            lambda: approve(run, who="anna", why="yes"),
            lambda: approve(run, who="bert", why="no, I"),
        )
        (won,) = [each for each in found if isinstance(each, Approval)]
        (lost,) = [each for each in found if isinstance(each, UsageError)]
        assert approval(run) == won
        assert f"was approved already, by {won.who} at" in str(lost)


def test_of_two_nights_that_go_out_at_once_the_newer_one_serves(
    nights: Nights, account: Account
) -> None:
    nights.published(0)
    older, newer = nights.judged(1), nights.judged(2)
    found = at_once(lambda: run_export(older), lambda: run_export(newer))
    for run, result in zip((older, newer), found, strict=True):
        if isinstance(result, HeldByAnotherError):
            # Told to come again; only the newer one gets anything by it.
            if run is older:
                with pytest.raises(OvertakenError):
                    run_export(run)
            else:
                run_export(run)
    assert active(account) == newer.run_id


def test_an_approval_needs_a_reason_and_a_judged_run(nights: Nights) -> None:
    run = nights.judged(40)
    with pytest.raises(UsageError, match="say why"):
        approve(run, who="anna", why="  ")
    unjudged = nights.prepared(1)
    with pytest.raises(UsageError, match=f"give `hyperrec evaluate {unjudged.run_id}` first"):
        approve(unjudged, who="anna", why="now")


def test_a_damaged_approval_is_told(nights: Nights) -> None:
    run = nights.judged(50)
    run.storage.write(f"{run.run_id}/approval.json", b"{}")
    with pytest.raises(CorruptOutputError, match=r"approval\.json in .* cannot be read"):
        run_export(run)


def test_the_command(nights: Nights, account: Account, tmp_path: Path) -> None:
    place = Place.make(tmp_path, cosmos=account.endpoint)
    nights.published(0, LIVE)
    run = nights.judged(1, LIVE, change=live(0.8))
    words = (run.run_id, "--runs", run.storage.url)
    held = place.hyperrec("export", *words, code=1)
    assert f"`hyperrec approve {run.run_id} --why REASON`" in held.said
    assert "--why" in place.hyperrec("approve", *words, code=2).said
    done = place.hyperrec("approve", *words, "--why", "a sale")
    assert "Gate warns: there are 48 items to publish" in done.out
    assert f"`hyperrec export {run.run_id}` publishes it" in done.out
    place.hyperrec("export", *words)
    assert active(account) == run.run_id
    assert "approved by " in place.hyperrec("history").out
