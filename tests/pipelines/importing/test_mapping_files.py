"""The notation of mappings, and what a person reads when it is broken."""

import pytest

from pipelines.errors import UsageError
from pipelines.importing import load_mapping
from pipelines.importing.mapping import SHIPPED


@pytest.mark.parametrize("name", sorted(file.stem for file in SHIPPED.glob("*.toml")))
def test_shipped_mappings_load_by_name_and_by_path(name):
    assert load_mapping(name) == load_mapping(str(SHIPPED / f"{name}.toml"))


def test_an_unknown_name_lists_the_names_and_the_likely_one():
    with pytest.raises(UsageError, match=r"did you mean online-retail\?.*canonical, interactions"):
        load_mapping("online_retail")


def test_a_missing_file_is_named():
    with pytest.raises(UsageError, match=r"Cannot read the mapping /nowhere/mine.toml"):
        load_mapping("/nowhere/mine.toml")


COLUMNS = '[columns]\nuser_id = "u"\nitem_id = "i"\nevent_time = "t"\n'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[columns]\nitem_id = "i"\nevent_time = "t"', r"columns.user_id: field required"),
        ('[columns]\nuser_id = "u"\nitem_id = "i"', r"columns: event_time is needed, or order"),
        (COLUMNS + 'colour = "c"', r"columns.colour: extra inputs"),
        (COLUMNS + '[event_time]\nunit = "days"', r"event_time.unit: input should be 'auto'"),
        (COLUMNS + "[event_type]\ndefault = 'sale'", r"event_type.default: input should be 'pur"),
        (
            COLUMNS + "[[event_type.when]]\ncolumn = 'c'\nmatches = '('\nis = 'view'",
            r"event_type.when.0.matches: '\(' is not a regular expression",
        ),
        ("optional = ['user_id']\n" + COLUMNS, r"optional.0: input should be"),
        (COLUMNS + "x = ", r"is not a TOML file"),
    ],
)
def test_a_broken_mapping_is_one_sentence_that_says_where(tmp_path, text, complaint):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=complaint) as raised:
        load_mapping(str(path))
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
