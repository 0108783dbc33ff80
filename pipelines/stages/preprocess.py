"""Stage 1: raw interactions to labelled histories, by Spark, where `HYPERREC_SPARK` says."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipelines import logs
from pipelines.errors import UsageError
from pipelines.preprocess.job import preprocess
from pipelines.preprocess.session import session
from pipelines.preprocess.source import raw_listing
from pipelines.preprocess.submit import submit
from pipelines.profile import profile_of
from pipelines.runs import Attempt, Manifest, Run, RunRecord
from pipelines.settings import Environment
from pipelines.storage import Blob, open_storage

_APPLICATION = Path(__file__).with_name("submitted.py")


def run_preprocess(run: Run) -> Manifest:
    """Do the preprocess stage of a run, unless it is done.

    Raises:
        UsageError: no Java, or the input has changed since the run was made.
        PipelineError: too much in quarantine, nothing left after the rules, or Spark did not start,
            failed or was killed.
    """
    if Environment().hyperrec_spark == "submit" and run.manifest("preprocess") is None:
        with logs.about(run.run_id, "preprocess"):
            submit(_APPLICATION, [run.run_id, run.storage.url], _bytes(_listing(run.record)))
        return run.require("preprocess")
    return run.finish("preprocess", lambda attempt: _work(run.record, attempt))


def _work(record: RunRecord, attempt: Attempt) -> dict[str, Any]:
    profile = profile_of(record)
    listing = _listing(record)
    now = RunRecord.identify(
        as_of=record.as_of,
        source=record.input,
        listing=listing,
        configuration=record.configuration,
    )
    if now.run_id != record.run_id:
        raise UsageError(
            f"The input {record.input} has changed since run {record.run_id} was made; "
            f"`hyperrec run --input {record.input} --as-of {record.as_of}` makes a run of what is "
            "there now."
        )
    # The session ends here: the training that follows in this process wants the JVM's memory.
    with session(_bytes(listing)) as spark:
        return preprocess(
            spark, record.input, listing, record.as_of, profile.preprocess, profile.seed, attempt
        )


def _listing(record: RunRecord) -> list[Blob]:
    profile = profile_of(record)
    first_day = profile.preprocess.first_day(record.as_of)
    return raw_listing(open_storage(record.input), record.as_of, first_day)


def _bytes(listing: Iterable[Blob]) -> int:
    return sum(blob.size for blob in listing)
