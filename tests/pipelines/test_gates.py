"""Gates as functions of plain numbers: what passes, warns and refuses, and that they say why."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hyperrec_core.artefact import ItemVectors
from hyperrec_core.compare import Difference
from hyperrec_core.soundness import Soundness, examine
from pipelines import gates
from pipelines.errors import GateRefusedError, UsageError
from pipelines.gate_limits import GateConfig
from pipelines.gates import Verdict
from pipelines.preprocess.limits import Limit, verdict
from pipelines.profile import load_profile

LIMITS = GateConfig()


def sheet(rng: np.random.Generator, count: int, length: float = 0.5) -> np.ndarray:
    space = rng.normal(size=(count, 4))
    space *= length / np.linalg.norm(space, axis=1, keepdims=True)
    return np.c_[-np.sqrt(1 + (space**2).sum(1)), space].astype(np.float32)


def vectors(target: np.ndarray, context: np.ndarray | None = None) -> ItemVectors:
    return ItemVectors([f"i{row}" for row in range(len(target))], target, context)


@pytest.fixture
def points() -> np.ndarray:
    return sheet(np.random.default_rng(0), 50)


def test_points_of_the_hyperboloid_are_sound(points: np.ndarray) -> None:
    found = examine(vectors(points, points), "hyperboloid")
    assert (found.items, found.not_finite, found.at_origin) == (50, 0, 0.0)
    assert found.off_sheet is not None and 0 < found.off_sheet < 1e-6
    assert found.radii["median"] == pytest.approx(np.arcsinh(0.5), rel=1e-5)
    for said in (
        gates.finite(found),
        gates.on_sheet(found, LIMITS),
        gates.radius(found, LIMITS),
        gates.at_origin(found, LIMITS),
    ):
        assert said.outcome == "pass", said


def test_far_points_rounded_to_float32_are_on_the_sheet() -> None:
    far = sheet(np.random.default_rng(1), 50, length=float(np.sinh(7.5)))
    found = examine(vectors(far), "hyperboloid")
    assert gates.on_sheet(found, LIMITS).outcome == "pass"
    assert gates.radius(found, LIMITS).outcome == "pass"
    farther = sheet(np.random.default_rng(1), 50, length=float(np.sinh(8.5)))
    assert gates.radius(examine(vectors(farther), "hyperboloid"), LIMITS).outcome == "warn"


@pytest.mark.parametrize("table", ["target", "context"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_number_that_is_none_is_refused(points: np.ndarray, table: str, value: float) -> None:
    poisoned = points.copy()
    poisoned[7, 2] = value
    both = (poisoned, points) if table == "target" else (points, poisoned)
    found = examine(vectors(*both), "hyperboloid")
    verdict = gates.finite(found)
    assert verdict.outcome == "refuse"
    assert verdict.numbers["rows_not_finite"] == 1
    json.dumps(found.radii, allow_nan=False)


def test_no_finite_item_has_no_radius(points: np.ndarray) -> None:
    found = examine(vectors(np.full_like(points, np.nan)), "hyperboloid")
    assert gates.finite(found).outcome == "refuse"
    assert gates.radius(found, LIMITS).outcome == "refuse"


@pytest.mark.parametrize("table", ["target", "context"])
def test_a_point_off_the_sheet_is_refused(points: np.ndarray, table: str) -> None:
    off = points.copy()
    off[3, 0] *= 1.001
    both = (off, points) if table == "target" else (points, off)
    verdict = gates.on_sheet(examine(vectors(*both), "hyperboloid"), LIMITS)
    assert verdict.outcome == "refuse"
    assert verdict.numbers["residual"] == pytest.approx(2e-3, rel=0.1)


def test_a_point_of_the_lower_sheet_is_refused(points: np.ndarray) -> None:
    lower = points.copy()
    lower[3, 0] = -lower[3, 0]
    assert gates.on_sheet(examine(vectors(lower), "hyperboloid"), LIMITS).outcome == "refuse"


def test_the_ball_ends_at_one(points: np.ndarray) -> None:
    ball = points[:, 1:] * 1.8
    assert gates.on_sheet(examine(vectors(ball), "poincare"), LIMITS).outcome == "pass"
    radii = examine(vectors(ball), "poincare").radii
    assert radii["median"] == pytest.approx(2 * np.arctanh(0.9), rel=1e-4)
    outside = points[:, 1:] * 2.1
    assert gates.on_sheet(examine(vectors(outside), "poincare"), LIMITS).outcome == "refuse"


def test_flat_space_has_no_sheet_and_no_end(points: np.ndarray) -> None:
    found = examine(vectors(points * 100), "euclidean")
    assert gates.on_sheet(found, LIMITS).outcome == "pass"
    assert gates.radius(found, LIMITS).outcome == "pass"


@pytest.mark.parametrize(("share", "outcome"), [(0.0, "pass"), (0.2, "warn"), (0.8, "refuse")])
def test_items_at_the_origin(points: np.ndarray, share: float, outcome: str) -> None:
    fallen = points.copy()
    fallen[: int(50 * share)] = [-1, 0, 0, 0, 0]
    verdict = gates.at_origin(examine(vectors(fallen), "hyperboloid"), LIMITS)
    assert (verdict.outcome, verdict.numbers["share"]) == (outcome, pytest.approx(share))


OWN = {"hr_at_10": 0.5, "ndcg_at_10": 0.3}


@pytest.mark.parametrize(
    ("popular", "outcome"),
    [
        ({"hr_at_10": 0.4, "ndcg_at_10": 0.2}, "pass"),
        ({"hr_at_10": 0.5, "ndcg_at_10": 0.2}, "refuse"),
        ({"hr_at_10": 0.4, "ndcg_at_10": 0.31}, "refuse"),
    ],
)
def test_popularity_must_be_beaten_in_both_metrics(popular: dict[str, float], outcome: str) -> None:
    assert gates.popularity(OWN, popular, 1.0).outcome == outcome
    recent = gates.popularity(OWN, popular, 1.0, recent=True)
    assert recent.outcome == ("pass" if outcome == "pass" else "warn")
    assert recent.numbers["hr_at_10_needed"] == popular["hr_at_10"]


def test_a_metric_that_is_no_number_beats_nothing() -> None:
    own = {"hr_at_10": float("nan"), "ndcg_at_10": 0.3}
    assert gates.popularity(own, {"hr_at_10": 0.0, "ndcg_at_10": 0.0}, 1.0).outcome == "refuse"


@pytest.mark.parametrize(
    ("found", "outcome"),
    [(1, "refuse"), (49, "refuse"), (50, "warn"), (199, "warn"), (200, "pass")],
)
def test_a_handful_of_labels_judges_nothing(found: int, outcome: str) -> None:
    # A single user's label is hit or is not: above the best sellers by chance.
    perfect = dict.fromkeys(gates.METRICS, 1.0)
    assert gates.popularity(perfect, dict.fromkeys(gates.METRICS, 0.0), 1.0).outcome == "pass"
    verdict = gates.labels(found, 1, LIMITS)
    assert (verdict.gate, verdict.outcome) == ("labels", outcome)
    assert f"by {found} test labels of 1 users" in verdict.reason
    assert "(approval needed below 200, refused below 50)" in verdict.reason
    small_shop = GateConfig.model_validate({"labels": {"warn": "off", "refuse": 1}})
    assert gates.labels(found, 1, small_shop).outcome == "pass"


def test_floors_are_asked_where_they_are_set() -> None:
    assert gates.floors(OWN, LIMITS) == []
    strict = GateConfig.model_validate({"hr_at_10": {"warn": 0.6}, "ndcg_at_10": {"refuse": 0.3}})
    hr, ndcg = gates.floors(OWN, strict)
    assert (hr.gate, hr.outcome) == ("hr_at_10", "warn")
    assert ndcg.outcome == "pass"  # the level itself is allowed
    assert "0.5000 (approval needed below 0.6)" in hr.reason


def differs(by: float, low: float, high: float) -> Difference:
    return Difference(a=0.4 + by, b=0.4, difference=by, low=low, high=high, p=0.0)


@pytest.mark.parametrize(
    ("difference", "outcome"),
    [
        (differs(0.01, -0.01, 0.03), "pass"),
        (differs(-0.019, -0.04, -0.001), "pass"),  # surely worse, and by less than the tolerance
        (differs(-0.021, -0.04, -0.001), "warn"),
        (differs(-0.05, -0.08, -0.019), "warn"),
        (differs(-0.05, -0.08, -0.021), "refuse"),
    ],
)
def test_worse_than_the_active_version(difference: Difference, outcome: str) -> None:
    same = differs(0.0, -0.01, 0.01)
    for found in ({"hr_at_10": difference, "ndcg_at_10": same},
                  {"hr_at_10": same, "ndcg_at_10": difference}):  # fmt: skip
        verdict = gates.active("v1", found, LIMITS)
        assert verdict.outcome == outcome
        assert verdict.numbers["hr_at_10_limit"] == pytest.approx(-0.02)
        assert verdict.numbers["version"] == "v1"
        assert "against the active version v1" in verdict.reason


@pytest.mark.parametrize(
    ("items", "active", "outcome"),
    [(100, None, "pass"), (100, 100, "pass"), (120, 100, "pass"), (90, 100, "pass"),
     (89, 100, "warn"), (49, 100, "refuse"), (5, 0, "pass")],
)  # fmt: skip
def test_a_catalogue_that_shrinks(items: int, active: int | None, outcome: str) -> None:
    assert gates.catalogue(items, active, LIMITS).outcome == outcome


def test_more_rows_in_quarantine_than_before() -> None:
    assert gates.quarantine(0.24, None, LIMITS).outcome == "pass"
    assert gates.quarantine(0.24, 0.23, LIMITS).outcome == "pass"
    assert gates.quarantine(0.24, 0.2, LIMITS).outcome == "warn"


def test_half_a_days_data_needs_no_approval_and_drift_does() -> None:
    half = verdict("volume_at_least", 0.5, Limit(warn=0.6), found="half a day", advice="look")
    drift = verdict("popularity_psi", 0.3, Limit(warn=0.1), found="PSI 0.3", advice="look")
    calm = verdict("event_mix_psi", 0.01, Limit(warn=0.1), found="PSI 0.01", advice="look")
    told = gates.data([half, calm], LIMITS)
    assert told.outcome == "pass" and "volume_at_least" in told.reason
    held = gates.data([half, drift], LIMITS)
    assert held.outcome == "warn" and "PSI 0.3" in held.reason and "half" not in held.reason
    assert held.numbers == {"volume_at_least": 0.5, "popularity_psi": 0.3}
    assert gates.data([half, drift], GateConfig(approve_input=())).outcome == "pass"
    assert gates.data([], LIMITS).outcome == "pass"


def test_the_gravest_outcome_counts() -> None:
    assert gates.worst([]) == "pass"
    assert gates.worst(["pass", "refuse", "warn"]) == "refuse"


def refused(gate: str) -> Verdict:
    return Verdict(gate, "refuse", f"{gate} says no", {})


def test_force_goes_for_all_gates_but_those_that_keep_readers_whole() -> None:
    gates.require_not_refused("r", [refused("active")], forced=True)
    with pytest.raises(GateRefusedError, match="active says no; `hyperrec approve r --force"):
        gates.require_not_refused("r", [refused("active")], forced=False)
    for gate in ("finite", "on_sheet", "servable"):
        with pytest.raises(GateRefusedError, match=f"stays: {gate} says no.$"):
            gates.require_not_refused("r", [refused("active"), refused(gate)], forced=True)


def test_verdicts_that_only_said_passed_are_read() -> None:
    old = {"verdicts": [{"gate": "finite", "passed": False, "reason": "NaN"}]}
    assert gates.verdicts_of(old) == [Verdict("finite", "refuse", "NaN", {})]


def test_a_level_that_is_not_given_keeps_its_default() -> None:
    found = load_profile("default", ["evaluate.gates.shrink.refuse=0.3"]).evaluate.gates
    assert (found.shrink.warn, found.shrink.refuse) == (0.1, 0.3)
    off = load_profile("default", ['evaluate.gates.shrink.warn="off"']).evaluate.gates
    assert (off.shrink.warn, off.shrink.refuse) == (None, 0.5)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            "evaluate.gates.shrink.refuse=0.05",
            "shrink.refuse must lie above shrink.warn: 0.05, 0.1",
        ),
        ("evaluate.gates.labels.refuse=300", "labels.refuse must lie below labels.warn: 300, 200"),
        ("evaluate.gates.hr_at_10={warn=0.1,refuse=0.2}", "hr_at_10.refuse must lie below"),
        ("evaluate.gates.approve_input=['psi']", "approve_input names psi, which is no limit"),
        ("evaluate.gates.tolerance=1", "evaluate.gates.tolerance"),
        ("evaluate.gates.radius=3", "there is no such setting"),
    ],
)
def test_settings_that_make_no_sense(setting: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load_profile("default", [setting])


def test_numbers_are_json(points: np.ndarray) -> None:
    found = examine(vectors(points), "hyperboloid")
    assert isinstance(found, Soundness)
    every = [
        gates.finite(found),
        gates.on_sheet(found, LIMITS),
        gates.radius(found, LIMITS),
        gates.at_origin(found, LIMITS),
        gates.labels(450, 150, LIMITS),
        gates.active("v", dict.fromkeys(gates.METRICS, differs(0, 0, 0)), LIMITS),
        gates.catalogue(1, 2, LIMITS),
    ]
    json.dumps([dict(each.numbers) for each in every], allow_nan=False)
