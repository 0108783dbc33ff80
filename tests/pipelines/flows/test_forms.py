"""Forms: what the API refuses by their schema, and what they refuse themselves."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import ValidationError, validate

from pipelines.errors import UsageError
from pipelines.flows.backfill import backfill
from pipelines.flows.evaluate_only import evaluate_only
from pipelines.flows.export_only import export_only
from pipelines.flows.forms import BackfillForm, ExportForm, RetrainForm, checked
from pipelines.flows.promote import promote
from pipelines.flows.retrain import daily_retrain
from pipelines.flows.rollback import rollback
from pipelines.flows.stage import stage

RUN = "2024-06-30-0123456789"
GOOD: dict[Any, dict[str, Any]] = {
    daily_retrain: {"source": "az://raw"},
    backfill: {"source": "az://raw", "first": "2024-06-01", "last": "2024-06-30"},
    promote: {"run_id": RUN, "why": "looked at it", "who": "Ann"},
    rollback: {"why": "odd shoes", "who": "Ann"},
    export_only: {"run_id": RUN},
    evaluate_only: {"run_id": RUN},
    stage: {"run_id": RUN, "runs": "az://runs", "stage": "train"},
}
FLOWS = [pytest.param(each, id=each.name) for each in GOOD]
BAD = [
    (daily_retrain, {"source": "s3://raw"}, "form.source"),
    (daily_retrain, {"as_of": "30.06.2024"}, "form.as_of"),
    (daily_retrain, {"profile": "/etc/passwd"}, "form.profile"),
    (daily_retrain, {"source": "az://"}, "form.source"),
    (daily_retrain, {"settings": ["train.epochs 5"]}, "form.settings"),
    (daily_retrain, {"settings": [" = 5"]}, "form.settings"),
    (daily_retrain, {"train_on": "moon"}, "form.train_on"),
    (daily_retrain, {"force": True}, "'why' is a required property"),
    (daily_retrain, {"force": True, "why": None, "who": "Ann"}, "form.why"),
    (daily_retrain, {"force": True, "why": "so", "who": "Ann"}, "form.why"),
    (
        daily_retrain,
        {"force": True, "why": "it is fine", "who": "Ann", "dry_run": True},
        "form.dry_run",
    ),
    (daily_retrain, {"start": "run"}, "'start_run' is a required property"),
    (daily_retrain, {"epochs": 5}, "'epochs' was unexpected"),
    (backfill, {"until": "export"}, "'why' is a required property"),
    (promote, {"run_id": "yesterday's"}, "form.run_id"),
    (rollback, {"why": ""}, "form.why"),
    (export_only, {"dry_run": False}, "'why' is a required property"),
]


def api_says(flow: Any, form: dict[str, Any]) -> None:
    """Check as the API does before it makes a flow run."""
    schema = parameter_schema(flow).model_dump()
    validate({"form": form}, schema, raise_on_error=True)


@pytest.mark.parametrize("flow", FLOWS)
def test_a_good_form_is_taken(flow: Any) -> None:
    api_says(flow, GOOD[flow])


@pytest.mark.parametrize("flow", FLOWS)
def test_every_field_has_a_title_and_a_description(flow: Any) -> None:
    (form,) = parameter_schema(flow).definitions.values()
    for name, field in form["properties"].items():
        assert field["description"].endswith("."), name
        assert field["title"][0].isupper(), name


@pytest.mark.parametrize(("flow", "change", "said"), BAD)
def test_the_api_refuses(flow: Any, change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        api_says(flow, GOOD[flow] | change)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        (RetrainForm, {"source": "az://raw", "force": True}, "Force needs a reason"),
        (
            RetrainForm,
            {"source": "az://raw", "start_run": RUN},
            "goes with start=run alone",
        ),
        (RetrainForm, {"source": "az://raw", "day": 3}, "there is no such field"),
        (RetrainForm, {}, "The field source of the form"),
        (
            BackfillForm,
            {"source": "az://raw", "first": "2024-06-02", "last": "2024-06-01"},
            "There is no night from 2024-06-02 to 2024-06-01",
        ),
        (
            BackfillForm,
            {"source": "az://raw", "first": "2020-06-02", "last": "2024-06-01"},
            "more than 400 nights",
        ),
        (ExportForm, {"run_id": RUN, "dry_run": False}, "needs a reason"),
    ],
)
def test_a_form_refuses_in_one_sentence(kind: Any, values: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        checked(kind, values)
    assert said in str(refused.value)
    assert str(refused.value).endswith("nothing was run, correct it and start again.")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("flow", [daily_retrain, backfill])
@pytest.mark.parametrize(
    "change",
    [
        {"settings": ["train.epochs = 5", "preprocess.drop.free=price = 0"]},
        {"source": "az://raw/my folder", "runs": "file:///my runs"},
    ],
)
def test_spaces_are_taken_where_the_profile_and_the_stores_take_them(
    flow: Any, change: dict[str, Any]
) -> None:
    filled_in = GOOD[flow] | change
    api_says(flow, filled_in)
    form = checked(RetrainForm if flow is daily_retrain else BackfillForm, filled_in)
    assert filled_in.items() <= form.model_dump(mode="json").items()


def test_a_form_stays_as_it_is() -> None:
    form = RetrainForm(source="az://raw", as_of=date(2024, 6, 30), profile="/my/own.toml")
    assert checked(RetrainForm, form) is form
    assert checked(RetrainForm, form.model_dump(mode="json")) == form
