"""Profiles: what is shipped loads, what is replaced counts, what is wrong is named."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import UsageError
from pipelines.profile import Profile, load_profile, parse_profile, profile_names
from pipelines.runs import RunRecord

Saved = Callable[[str], str]


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    """Writes a profile and gives its path."""

    def save(text: str) -> str:
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return str(path)

    return save


def run_id(profile: Profile) -> str:
    return RunRecord.identify(
        as_of=date(2024, 1, 1),
        source="az://raw",
        listing=[],
        configuration=profile.model_dump(mode="json"),
    ).run_id


def complaint(name: str, *overrides: str) -> str:
    with pytest.raises(UsageError) as caught:
        load_profile(name, list(overrides))
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.endswith(".")
    assert not message.endswith("..")
    return message


@pytest.mark.parametrize("name", profile_names())
def test_every_shipped_profile_loads(name: str) -> None:
    profile = load_profile(name)
    assert profile.train.epochs > 0
    # As a run keeps it, and as its later stages read it.
    kept = profile.model_dump(mode="json")
    assert parse_profile(kept, source="a run") == profile
    assert Profile.model_validate_json(profile.model_dump_json()) == profile


def test_the_shipped_profiles_are_the_documented_ones() -> None:
    assert profile_names() == [
        "autoencoder",
        "cml",
        "default",
        "hvacf",
        "hyperml",
        "leave-last-out",
        "online-retail",
    ]
    assert load_profile("default").preprocess.split == "last_week"
    assert load_profile("leave-last-out").preprocess.split == "leave_last_out"


def test_an_unknown_name_lists_the_known_ones() -> None:
    assert complaint("nightly") == (
        f"There is no profile nightly; choose one of {', '.join(profile_names())}, or give the "
        "path of a .toml file."
    )
    assert complaint("no/such.toml").startswith("There is no profile no/such.toml; choose one of")


def test_a_profile_may_be_a_file_of_ones_own(saved: Saved) -> None:
    profile = load_profile(saved("seed = 5\n[train]\nepochs = 2\n"))
    assert (profile.seed, profile.train.epochs) == (5, 2)
    assert profile.preprocess == Profile().preprocess


def test_a_folder_or_other_text_is_told(saved: Saved, tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    assert "Cannot read the profile" in complaint(str(tmp_path / "folder.toml"))
    for text in ("seed: 1\n", "[train\n", "seed = 1\nseed = 2\n"):
        path = saved(text)
        assert complaint(path).startswith(f"The profile {path} is not TOML: ")
    (tmp_path / "mine.toml").write_bytes(b'seed = "\xff"')
    assert "is not TOML" in complaint(str(tmp_path / "mine.toml"))


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ("sead = 1", "sead", "there is no such setting"),
        ("[trian]\nepochs = 1", "trian", "there is no such setting"),
        ("[train]\nepoch = 1", "train.epoch", "there is no such setting"),
        ("[train.model]\ndimension = 8", "train.model.dimension", "there is no such setting"),
        ("[preprocess]\ntest_day = 1", "preprocess.test_day", "there is no such setting"),
        ("seed = -1", "seed", "greater than or equal to 0"),
        ('seed = "one"', "seed", "valid integer"),
        ("train = 3", "train", "dictionary"),
        ("[preprocess]\nvalidation_share = 0.6", "preprocess.validation_share", "less than"),
        ("[preprocess]\nvalidation_share = nan", "preprocess.validation_share", "less than"),
        ("[evaluate]\nminimum_ratio = inf", "evaluate.minimum_ratio", "finite number"),
        ('[preprocess]\nsplit = "random"', "preprocess.split", "'last_week' or 'leave_last_out'"),
        ("[preprocess]\nlabel_events = []", "preprocess.label_events", "at least 1 item"),
        ('[preprocess.drop]\n"A B" = "x"', "preprocess.drop", "small letters"),
        ("[train]\nepochs = 0", "train", "train.epochs is 0; it must be at least 1"),
        ("[train.model]\nscale = 0.0", "train.model", "model.scale is 0.0; it must be above 0"),
        ("[train.model]\ntables = 3", "train.model.tables", "1 or 2"),
        ('[train.model]\nname = "hyperml"\ntables = 1', "train.model.tables", "no such setting"),
        ('[train.model]\nname = "hyperml"\nlags = 0.5', "train.model.lags", "valid integer"),
        (
            '[train.model]\nname = "hyperml"\ncurvature = 0',
            "train.model",
            "model.curvature is 0.0; it must be above 0",
        ),
        ("[train.model]\nmargin = 0.1", "train.model.margin", "no such setting"),
        ("[train.model]\ndimensions = 1", "train.model", "dimensions is 1; it must be at least 2"),
        ("[train.model]\nrecency = 1.5", "train.model", "it must be above 0 and at most 1"),
        (
            '[train.model]\nname = "hvacf"\ndimensions = 1',
            "train.model",
            "model.dimensions is 1; it must be at least 2",
        ),
        (
            '[train.model]\nname = "cml"\nrecency = 2',
            "train.model",
            "model.recency is 2.0; it must be above 0 and at most 1",
        ),
        (
            '[train.model]\nname = "autoencoder"\nhidden = [512]',
            "train.model",
            "model.hidden [512] makes layers of 65,536 numbers; at most 40,000 can be published",
        ),
        (
            '[train]\nnegatives = 3\n[train.model]\nname = "mf-bpr"\nnegatives_per_label = 4',
            "train",
            "negatives_per_label is 4, and a step draws only 3 negatives: raise train.negatives",
        ),
        ('[train.model]\nname = "none"', "train", "model.name is none; it must be one of points, "),
        ("[train.model]\nname = [1]", "train", "model.name is [1]; it must be one of points, "),
        ("[train]\nmodel = 1", "train.model", "dictionary"),
        ("[evaluate]\nnegatives = 0", "evaluate.negatives", "greater than or equal to 1"),
        ("[export]\nsimilar = 201", "export.similar", "less than or equal to 200"),
    ],
)
def test_a_wrong_setting_is_named_with_its_place(
    saved: Saved, text: str, place: str, problem: str
) -> None:
    path = saved(text)
    message = complaint(path)
    assert message.startswith(f"In the profile {path}, {place}: ")
    assert problem in message


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("seed=9", 9),
        ("train.epochs = 3", 3),
        ("train.model.learning_rate=1e-2", 0.01),
        ("train.model.scale=3", 3.0),
        ('preprocess.split="leave_last_out"', "leave_last_out"),
        ("preprocess.split=leave_last_out", "leave_last_out"),
        ("preprocess.split='leave_last_out'", "leave_last_out"),
        ("preprocess.split = leave_last_out ", "leave_last_out"),
        ('preprocess.label_events=["purchase", "view"]', ("purchase", "view")),
        ('preprocess.drop={free = "price = 0"}', {"free": "price = 0"}),
        ("preprocess.drop.free=price = 0", "price = 0"),
        ("evaluate.minimum_ratio=0", 0.0),
        ("warm_start=2024-01-09-0123456789", "2024-01-09-0123456789"),
        ("warm_start=2024-01-09-1234e56789", "2024-01-09-1234e56789"),
    ],
)
def test_an_override_replaces_one_setting(override: str, value: object) -> None:
    place = override.partition("=")[0].strip().split(".")

    def found(profile: Profile) -> Any:
        settings: Any = profile
        for part in place:
            settings = settings[part] if isinstance(settings, dict) else getattr(settings, part)
        return settings

    changed = load_profile("default", [override])
    assert found(changed) == value
    assert type(found(changed)) is type(value)
    assert run_id(changed) != run_id(load_profile("default"))


def test_later_overrides_win_and_the_rest_stays() -> None:
    changed = load_profile("online-retail", ["seed=2", "train.epochs=3", "seed=4"])
    own = load_profile("online-retail")
    assert changed.seed == 4
    assert changed.train.model == own.train.model
    assert changed.preprocess == own.preprocess


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("train.epochs", "train.epochs is no setting: write section.setting=value."),
        ("=3", "=3 is no setting: write section.setting=value."),
        ("seed.x=1", "seed.x=1 names no setting: seed is not a section."),
        ("train.epochs.x=1", "train.epochs.x=1 names no setting: epochs is not a section."),
        ("train.epoch=1", "In the profile default, train.epoch: there is no such setting."),
        ("nothing.at.all=1", "In the profile default, nothing: there is no such setting."),
        ("train.epochs=0", "In the profile default, train: train.epochs is 0; it must be at least"),
        ("train.epochs=many", "In the profile default, train.epochs: Input should be a valid int"),
        ("train.epochs=", "In the profile default, train.epochs: Input should be a valid int"),
        ("seed=2024-01-01", "In the profile default, seed: "),
        ("train=1", "In the profile default, train: "),
    ],
)
def test_a_wrong_override_is_told(override: str, says: str) -> None:
    assert complaint("default", override).startswith(says)


def test_only_what_a_profile_means_identifies_a_run(saved: Saved) -> None:
    plain = run_id(load_profile(saved("seed = 1\n[train]\nepochs = 2\nbatch_size = 64\n")))
    commented = "# For the night.\nseed=1  # fixed\n\n[train]\nbatch_size=64\nepochs=2\n"
    assert run_id(load_profile(saved(commented))) == plain
    # The same settings, one of them a default spelt out, or given another way.
    spelt_out = commented + "[evaluate]\nnegatives = 100\n"
    assert run_id(load_profile(saved(spelt_out))) == plain
    replaced = ["train.epochs=2", "train.batch_size=64"]
    assert run_id(load_profile(saved("seed=1\n"), replaced)) == plain
    assert run_id(load_profile(saved(commented), ["train.epochs=3"])) != plain


@given(st.integers(1, 10**6), st.floats(0, 0.5), st.integers(0, 200), st.integers(0, 10**9))
def test_a_profile_survives_being_kept(epochs: int, share: float, similar: int, seed: int) -> None:
    overrides = [
        f"train.epochs={epochs}",
        f"preprocess.validation_share={share!r}",
        f"export.similar={similar}",
        f"seed={seed}",
    ]
    profile = load_profile("default", overrides)
    assert profile.preprocess.validation_share == share
    assert parse_profile(profile.model_dump(mode="json"), source="a run") == profile
