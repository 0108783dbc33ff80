"""Starting and finding runs by addresses, as a command or a flow names them."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pipelines.errors import UsageError
from pipelines.runs import Run, RunRecord
from pipelines.settings import Environment
from pipelines.storage import Storage, open_storage

if TYPE_CHECKING:
    from hyperrec_core.models import ModelConfig
    from pipelines.profile import Profile


def runs_url(source: str | None = None) -> str:
    """Where runs are kept unless a command says so.

    `HYPERREC_RUNS` when set; otherwise ``az://runs``, or a folder of the local home when the input
    is a folder too.
    """
    env = Environment()
    if env.hyperrec_runs is not None:
        return env.hyperrec_runs
    if source is None or source.startswith("az://"):
        return "az://runs"
    return str(env.hyperrec_home / "runs")


def absolute(url: str) -> str:
    """An address that holds for a process in another folder, too; no store is asked."""
    return open_storage(url).url if urlsplit(url).scheme in {"", "file"} else url


def start_run(
    *,
    source: str,
    as_of: date,
    profile: str = "default",
    overrides: list[str] | None = None,
    runs: str | None = None,
) -> Run:
    """The run of an input, a date and a profile: made, or found as an earlier command left it.

    Args:
        source: URL of the raw layout.
        as_of: the last day whose interactions count.
        profile: name or path of the profile.
        overrides: single settings, `section.setting=value`.
        runs: URL under which runs are kept.

    Raises:
        UsageError: no such input, none up to `as_of`, a profile that does not check, or a run to
            start from that is none.
    """
    # Spark and PyTorch take seconds to import, which finding a run does without.
    from pipelines.preprocess.source import raw_listing  # noqa: PLC0415
    from pipelines.profile import load_profile  # noqa: PLC0415

    settings = load_profile(profile, overrides)
    storage, place = open_storage(source), open_storage(runs or runs_url(source))
    warm_start_run(place, settings)
    record = RunRecord.identify(
        as_of=as_of,
        source=storage.url,
        listing=raw_listing(storage, as_of, settings.preprocess.first_day(as_of)),
        configuration=settings.model_dump(mode="json"),
    )
    return Run.start(place, record)


def warm_start_run(runs: Storage, profile: Profile) -> tuple[Run, ModelConfig] | None:
    """The trained run that a profile's training starts from, and the settings of its model.

    Args:
        runs: the storage of runs.
        profile: of the run to train.

    Returns:
        None where the profile names no run.

    Raises:
        UsageError: there is no such run, it is not trained, or its model is of another kind.
    """
    if profile.warm_start is None:
        return None
    from hyperrec_core import warm  # noqa: PLC0415
    from pipelines.profile import profile_of  # noqa: PLC0415

    run = Run.open(runs, profile.warm_start)
    run.require("train")
    earlier = profile_of(run.record).train.model
    try:
        warm.require_alike(profile.train.model, earlier)
    except warm.WarmStartError as error:
        raise UsageError(f"Training cannot start from run {run.run_id}: {error}.") from error
    return run, earlier


def open_run(run_id: str, runs: str | None = None) -> Run:
    """An existing run; raises `UsageError` when there is none of that id."""
    return Run.open(open_storage(runs or runs_url()), run_id)
