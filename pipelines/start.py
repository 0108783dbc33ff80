"""Starting and finding runs by addresses, as a command or a flow names them."""

from __future__ import annotations

from datetime import date

from pipelines.runs import Run, RunRecord
from pipelines.settings import Environment
from pipelines.storage import open_storage


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
        UsageError: no such input, none up to `as_of`, or a profile that does not check.
    """
    # Spark and PyTorch take seconds to import, which finding a run does without.
    from pipelines.preprocess.source import raw_listing  # noqa: PLC0415
    from pipelines.profile import load_profile  # noqa: PLC0415

    settings = load_profile(profile, overrides)
    storage = open_storage(source)
    record = RunRecord.identify(
        as_of=as_of,
        source=storage.url,
        listing=raw_listing(storage, as_of),
        configuration=settings.model_dump(mode="json"),
    )
    return Run.start(open_storage(runs or runs_url(source)), record)


def open_run(run_id: str, runs: str | None = None) -> Run:
    """An existing run; raises `UsageError` when there is none of that id."""
    return Run.open(open_storage(runs or runs_url()), run_id)
