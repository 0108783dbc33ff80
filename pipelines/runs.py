"""Runs, stages, attempts and manifests: how a run resumes and why nothing half-written counts.

Layout below the storage of runs::

    <run_id>/run.json                       what the run is of: input, date, configuration
    <run_id>/approval*.json                 a person's word on its publication, see `approvals`
    <run_id>/<stage>/manifest.json          written last, by conditional put: the stage is done
    <run_id>/<stage>/<attempt>/...          outputs of one attempt; only a manifest makes them count
    <run_id>/train/checkpoints/...          progress inside a stage, removed when it is done

Two processes may attempt the same stage: the first manifest wins and the other's outputs are
removed. Nothing in a finished stage is ever modified.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines import provenance, telemetry
from pipelines.errors import AlreadyExistsError, CorruptOutputError, NotFoundError, UsageError
from pipelines.storage import Blob, Storage

log = logging.getLogger(__name__)

StageName = Literal["preprocess", "train", "evaluate", "export"]
STAGES: tuple[StageName, ...] = get_args(StageName)


class Output(BaseModel):
    """One blob that a stage wrote: `path` is relative to the run, `rows` is None for no table."""

    model_config = ConfigDict(frozen=True)

    name: str
    path: str
    sha256: str
    bytes: int
    rows: int | None = None


class Manifest(BaseModel):
    """What a finished stage did: the record a later stage, an auditor or a resume trusts."""

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    run_id: str
    stage: StageName
    attempt: str
    inputs: dict[str, str]
    outputs: tuple[Output, ...]
    configuration: dict[str, Any]
    seed: int
    code_version: str
    packages: dict[str, str]
    machine: str
    started_at: datetime
    wall_seconds: float
    peak_memory_bytes: int
    metrics: dict[str, Any]

    def output(self, name: str) -> Output:
        """The output of that name; raises `NotFoundError` naming those there are."""
        for output in self.outputs:
            if output.name == name:
                return output
        names = ", ".join(output.name for output in self.outputs)
        raise NotFoundError(
            f"Stage {self.stage} of run {self.run_id} wrote no {name}; it wrote {names}."
        )


class RunRecord(BaseModel):
    """`run.json`: what identifies a run. The run id is its date and a hash of the rest."""

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    run_id: str
    as_of: date
    input: str
    input_digest: str
    configuration: dict[str, Any]

    @classmethod
    def identify(
        cls, *, as_of: date, source: str, listing: Iterable[Blob], configuration: dict[str, Any]
    ) -> RunRecord:
        """The record of a run over these input blobs with this configuration.

        The same blobs (name, size, ETag) and configuration give the same run id, on any machine.
        """
        digest = hashlib.sha256()
        for blob in sorted(listing, key=lambda blob: blob.name):
            digest.update(f"{blob.name}\0{blob.size}\0{blob.etag}\n".encode())
        input_digest = digest.hexdigest()
        identity = {
            "as_of": as_of.isoformat(),
            "input": input_digest,
            "configuration": configuration,
        }
        short = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:10]
        return cls(
            run_id=f"{as_of.isoformat()}-{short}",
            as_of=as_of,
            input=source,
            input_digest=input_digest,
            configuration=configuration,
        )


class Attempt:
    """One try at a stage: a folder of outputs that count once the manifest names them."""

    def __init__(self, run: Run, stage: StageName) -> None:
        self.run = run
        self.stage = stage
        self.id = uuid.uuid4().hex[:12]
        self.outputs: list[Output] = []
        self.inputs: dict[str, str] = {}

    @property
    def folder(self) -> str:
        """Where this attempt's outputs lie, relative to the storage of runs."""
        return f"{self.run.run_id}/{self.stage}/{self.id}"

    def write(self, name: str, data: bytes, *, rows: int | None = None) -> None:
        """Put one output whole."""
        self.run.storage.write(f"{self.folder}/{name}", data)
        self.adopt(name, sha256=hashlib.sha256(data).hexdigest(), size=len(data), rows=rows)

    def adopt(self, name: str, *, sha256: str, size: int, rows: int | None) -> None:
        """Record an output that another process has put below `folder`."""
        path = f"{self.stage}/{self.id}/{name}"
        self.outputs.append(Output(name=name, path=path, sha256=sha256, bytes=size, rows=rows))

    def read(self, stage: StageName, name: str) -> bytes:
        """An output of an earlier stage, verified, and noted as an input of this one."""
        data = self.run.read(stage, name)
        self.inputs[f"{stage}/{name}"] = self.run.require(stage).output(name).sha256
        return data


class Run:
    """A run in the storage of runs."""

    def __init__(self, storage: Storage, record: RunRecord) -> None:
        self.storage = storage
        self.record = record
        self.run_id = record.run_id

    @classmethod
    def start(cls, storage: Storage, record: RunRecord) -> Run:
        """The run of that record: created, or found as an earlier command left it."""
        with contextlib.suppress(AlreadyExistsError):
            storage.create(f"{record.run_id}/run.json", _to_json(record))
        return cls(storage, record)

    @classmethod
    def open(cls, storage: Storage, run_id: str) -> Run:
        """An existing run.

        Raises:
            UsageError: there is none of that id; the message lists the newest ones.
        """
        try:
            data = storage.read(f"{run_id}/run.json")
        except NotFoundError as error:
            known = ", ".join(list_runs(storage)[-5:]) or "none yet"
            raise UsageError(
                f"There is no run {run_id} in {storage.url}; the runs there: {known}."
            ) from error
        try:
            return cls(storage, RunRecord.model_validate_json(data))
        except ValidationError as error:
            raise CorruptOutputError(
                f"{run_id}/run.json in {storage.url} cannot be read: it is of another version or "
                "damaged; restore it, or start a run with another date or configuration."
            ) from error

    def manifest(self, stage: StageName) -> Manifest | None:
        """The manifest of a finished stage, or None."""
        try:
            return Manifest.model_validate_json(
                self.storage.read(f"{self.run_id}/{stage}/manifest.json")
            )
        except NotFoundError:
            return None
        except ValidationError as error:
            raise CorruptOutputError(
                f"The manifest of stage {stage} of run {self.run_id} cannot be read: it is of "
                "another version or damaged; start a run with another date or configuration."
            ) from error

    def require(self, stage: StageName) -> Manifest:
        """The manifest of a stage that must be finished by now; raises `UsageError`."""
        manifest = self.manifest(stage)
        if manifest is None:
            raise UsageError(
                f"Stage {stage} of run {self.run_id} is not done: "
                f"give `hyperrec {stage} {self.run_id}` first."
            )
        return manifest

    def read(self, stage: StageName, name: str) -> bytes:
        """An output of a finished stage, checked against its manifest.

        Raises:
            CorruptOutputError: the bytes are missing or not those the manifest names.
        """
        output = self.require(stage).output(name)
        try:
            data = self.storage.read(f"{self.run_id}/{output.path}")
        except NotFoundError as error:
            raise CorruptOutputError(
                f"{self.run_id}/{output.path} is named by its manifest but missing from "
                f"{self.storage.url}: restore it, or start another run."
            ) from error
        if hashlib.sha256(data).hexdigest() != output.sha256:
            raise CorruptOutputError(
                f"{self.run_id}/{output.path} in {self.storage.url} differs from the sha256 in its "
                "manifest: restore it, or start another run."
            )
        return data

    def finish(self, stage: StageName, work: Callable[[Attempt], Mapping[str, Any]]) -> Manifest:
        """Do a stage unless it is done, and put its manifest last.

        Args:
            stage: the stage.
            work: writes the outputs through the attempt and returns the metrics.

        Returns:
            The manifest: this attempt's, or that of whoever finished the stage first.
        """
        if (done := self.manifest(stage)) is not None:
            log.info("Stage %s of run %s is done already.", stage, self.run_id)
            # Whoever finished it may have been killed before it had tidied up.
            self._remove_leftovers(stage, done.attempt)
            return done
        with telemetry.stage(self, stage) as report:
            done = self._attempt(stage, work)
            report(done)
        self._remove_leftovers(stage, done.attempt)
        return done

    def _attempt(self, stage: StageName, work: Callable[[Attempt], Mapping[str, Any]]) -> Manifest:
        attempt = Attempt(self, stage)
        started_at, clock = datetime.now(UTC), time.monotonic()
        metrics = work(attempt)
        manifest = Manifest(
            run_id=self.run_id,
            stage=stage,
            attempt=attempt.id,
            inputs=attempt.inputs,
            outputs=tuple(attempt.outputs),
            configuration=self.record.configuration,
            seed=int(self.record.configuration["seed"]),
            code_version=provenance.code_version(),
            packages=provenance.packages(),
            machine=provenance.machine(),
            started_at=started_at,
            wall_seconds=round(time.monotonic() - clock, 3),
            peak_memory_bytes=provenance.peak_memory_bytes(),
            metrics=dict(metrics),
        )
        try:
            self.storage.create(f"{self.run_id}/{stage}/manifest.json", _to_json(manifest))
        except AlreadyExistsError:
            # Another process was faster, or our own put succeeded and its answer was lost.
            log.info("Stage %s of run %s has its manifest already.", stage, self.run_id)
        return self.require(stage)

    def _remove_leftovers(self, stage: StageName, keep: str) -> None:
        """Remove what killed or slower attempts and checkpoints left in a finished stage."""
        folder = f"{self.run_id}/{stage}/"
        for blob in list(self.storage.list(folder)):
            part = blob.name[len(folder) :].partition("/")[0]
            if part not in {keep, "manifest.json"}:
                self.storage.delete(blob.name)


def list_runs(storage: Storage) -> list[str]:
    """Ids of the runs in a storage, oldest date first."""
    return [
        blob.name.removesuffix("/run.json")
        for blob in storage.list()
        if blob.name.endswith("/run.json")
    ]


def day_of_run(run_id: str) -> date | None:
    """The last day that a run knows, which its id begins with; None for an id of another kind."""
    try:
        return date.fromisoformat(run_id[:10])
    except ValueError:
        return None


def last_published(storage: Storage, before: date) -> str | None:
    """Id of the run of the latest date before one that was published; None when none was."""
    ending = "/export/manifest.json"
    found = [b.name.removesuffix(ending) for b in storage.list() if b.name.endswith(ending)]
    return max((run_id for run_id in found if run_id[:10] < before.isoformat()), default=None)


def _to_json(model: BaseModel) -> bytes:
    return (model.model_dump_json(indent=2) + "\n").encode()
