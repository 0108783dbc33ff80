"""Stage 2: fit the model, with checkpoints every minute from which a killed stage goes on."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from hyperrec_core import artefact, cold, warm
from hyperrec_core.analysis.disc import poincare_disc
from hyperrec_core.fit import Checkpoint, Epoch, Progress, TrainingError, best_device, fit
from hyperrec_core.histories import Histories
from hyperrec_core.models import Model, uses_features
from pipelines.errors import NotFoundError, PipelineError
from pipelines.profile import Profile, profile_of
from pipelines.progress import bar
from pipelines.runs import Attempt, Manifest, Run
from pipelines.stages.inputs import (
    Vocabulary,
    read_earlier,
    read_features,
    read_histories,
    read_vocabulary,
)
from pipelines.start import warm_start_run

log = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 60.0
"""An epoch that takes longer leaves checkpoints inside it, as far apart as this."""
CHECKPOINT_SHARE = 0.05
"""No more of the time than this goes into them: where storage is slow they are further apart. On a
local disk 132,399 items of two tables of 51 take 0.1 to 0.5 s, 55 or, with the best epoch, 110 MB.
"""


def run_train(run: Run) -> Manifest:
    """Do the train stage of a run, unless it is done.

    Raises:
        UsageError: the preprocess stage is not done, or training cannot start from the run that
            the profile names.
        PipelineError: nothing to train on, or the loss is no longer finite.
    """
    return run.finish("train", lambda attempt: _work(run, attempt))


def help_train(run: Run) -> None:
    """Fit beside the process that does the train stage, and write nothing.

    For the other processes of a group (`hyperrec_core.processes`), each of which does its share of
    every step.

    Raises:
        UsageError, PipelineError: as `run_train`.
    """
    if run.manifest("train") is None:
        inputs = _read(run, Attempt(run, "train"))
        _fit(inputs, resume=_Checkpoints(run).latest())


class _Inputs(NamedTuple):
    """What training reads."""

    profile: Profile
    vocabulary: Vocabulary
    start: dict[str, Tensor] | None
    features: Tensor | None
    train: Histories
    validation: Histories


def _read(run: Run, attempt: Attempt) -> _Inputs:
    profile = profile_of(run.record)
    vocabulary = read_vocabulary(attempt)
    start = _start(run, attempt, profile, vocabulary)
    features = _features(attempt, profile, vocabulary)
    train = read_histories(attempt, "train", items=len(vocabulary))
    validation = read_histories(attempt, "validation", items=len(vocabulary))
    return _Inputs(profile, vocabulary, start, features, train, validation)


def _fit(inputs: _Inputs, **options: Any) -> tuple[Model, Progress]:
    try:
        return fit(
            inputs.train,
            inputs.validation,
            inputs.profile.train,
            items=len(inputs.vocabulary),
            seed=inputs.profile.seed,
            device=best_device(),
            features=inputs.features,
            start=inputs.start,
            **options,
        )
    except TrainingError as error:
        raise PipelineError(str(error)) from error


def _work(run: Run, attempt: Attempt) -> dict[str, Any]:
    inputs = _read(run, attempt)
    profile, vocabulary, device = inputs.profile, inputs.vocabulary, best_device()
    log.info(
        "Training on %s: %d items, %d training labels, %d validation labels.",
        device.type,
        len(vocabulary),
        len(inputs.train),
        len(inputs.validation),
    )
    checkpoints = _Checkpoints(run)
    resume = checkpoints.latest()

    epochs, passed = profile.train.epochs, len(resume[0].epochs) if resume else 0

    def after_epoch(progress: Progress, tensors: dict[str, Tensor]) -> None:
        nonlocal passed
        passed = len(progress.epochs)
        _log_epoch(progress.epochs[-1], epochs)
        checkpoints.save(progress, tensors)

    with bar("training") as move:

        def on_batch(done: int, examples: int, checkpoint: Callable[[], Checkpoint]) -> None:
            move(passed * examples + done, epochs * examples, f"epoch {passed + 1} of {epochs}")
            if checkpoints.are_due():
                checkpoints.save(*checkpoint())
                log.info("%d of the epoch's %d examples are done and saved.", done, examples)

        model, progress = _fit(inputs, resume=resume, after_epoch=after_epoch, on_batch=on_batch)
    _write_outputs(attempt, model, progress, checkpoints.newest, vocabulary)
    _write_items(attempt, model, vocabulary)
    best = progress.epochs[progress.best_epoch - 1]
    return {
        "device": device.type,
        "epochs": len(progress.epochs),
        "best_epoch": asdict(best),
        "examples_per_second": round(
            sum(e.examples_per_second for e in progress.epochs) / len(progress.epochs)
        ),
    }


def _start(
    run: Run, attempt: Attempt, profile: Profile, vocabulary: Vocabulary
) -> dict[str, Tensor] | None:
    found = warm_start_run(run.storage, profile)
    if found is None:
        return None
    earlier = read_earlier(attempt, *found)
    log.info("Starting from the points of run %s.", profile.warm_start)
    return warm.start_state(
        profile.train.model,
        earlier,
        item_ids=vocabulary.item_ids,
        categories=vocabulary.categories,
        counts=vocabulary.counts,
        seed=profile.seed,
    )


def _features(attempt: Attempt, profile: Profile, vocabulary: Vocabulary) -> Tensor | None:
    if not uses_features(profile.train.model):
        return None
    found = read_features(attempt, vocabulary)
    if found is None:
        log.warning("The catalogue has neither features nor categories: items are points alone.")
        return None
    without = int((~found.any(axis=1)).sum())
    log.info("Items have %d features each; %d have none.", found.shape[1], without)
    return torch.from_numpy(found)


class _Checkpoints:
    """From where a killed stage goes on: every epoch's end, and the last two places inside one.

    Names go by time, since a full stop comes after a hyphen::

        epoch-0003-batch-00020000.safetensors   in the middle of the third epoch
        epoch-0003.safetensors                  at its end
    """

    def __init__(self, run: Run) -> None:
        self._storage = run.storage
        self._folder = f"{run.run_id}/train/checkpoints/"
        self._due = monotonic() + CHECKPOINT_SECONDS
        self.newest = b""

    def latest(self) -> Checkpoint | None:
        """The newest that can be read; an older one, or none, when it cannot."""
        for name in reversed([blob.name for blob in self._storage.list(self._folder)]):
            try:
                data = self._storage.read(name)
                checkpoint = artefact.load_checkpoint(data)
            except artefact.ArtefactError as error:
                log.warning("%s is passed over for an earlier checkpoint: %s", name, error)
            except NotFoundError:
                continue  # another attempt at this stage has a newer one by now
            else:
                self.newest = data
                _log_resumed(checkpoint[0])
                return checkpoint
        return None

    def are_due(self) -> bool:
        """Whether it is time for one inside an epoch."""
        return monotonic() >= self._due

    def save(self, progress: Progress, tensors: dict[str, Tensor]) -> None:
        """Put one whole, then remove those inside epochs that are no longer wanted."""
        started = monotonic()
        name = f"epoch-{len(progress.epochs):04d}"
        if progress.part is not None:
            name = f"epoch-{len(progress.epochs) + 1:04d}-batch-{progress.part.batches:08d}"
        self.newest = artefact.save_checkpoint(progress, tensors)
        self._storage.write(f"{self._folder}{name}.safetensors", self.newest)
        if progress.part is not None:
            names = [blob.name for blob in self._storage.list(f"{self._folder}epoch-")]
            for old in [name for name in names if "-batch-" in name][:-2]:
                self._storage.delete(old)
        ended = monotonic()
        self._due = ended + max(CHECKPOINT_SECONDS, (ended - started) / CHECKPOINT_SHARE)


def _log_resumed(progress: Progress) -> None:
    done = len(progress.epochs)
    if progress.part is None:
        log.info("Going on after epoch %d of an earlier attempt.", done)
    else:
        batches = progress.part.batches
        log.info("Going on after batch %d of epoch %d of an earlier attempt.", batches, done + 1)


def _log_epoch(epoch: Epoch, epochs: int) -> None:
    judged = "no validation labels"
    if epoch.hr_at_10 is not None:
        judged = f"validation HR@10 {epoch.hr_at_10:.4f}, NDCG@10 {epoch.ndcg_at_10:.4f}"
    log.info(
        "Epoch %d/%d: loss %.4f, %s, %.1f s, %.0f examples/s.",
        epoch.number,
        epochs,
        epoch.loss,
        judged,
        epoch.seconds,
        epoch.examples_per_second,
    )


def _write_outputs(
    attempt: Attempt,
    model: Model,
    progress: Progress,
    checkpoint: bytes,
    vocabulary: Vocabulary,
) -> None:
    attempt.write("model.json", json.dumps(model.description(), indent=2).encode())
    attempt.write("epochs.json", json.dumps(progress.to_json(), indent=2).encode())
    attempt.write("checkpoint.safetensors", checkpoint)
    if model.description()["geometry"] == "hyperboloid":
        _draw(attempt, model, vocabulary)


def _draw(attempt: Attempt, model: Model, vocabulary: Vocabulary) -> None:
    """The items on the Poincaré disc, which is a picture of hyperbolic space alone."""
    points = model.item_vectors().cpu().numpy()
    points[:, 0] = -points[:, 0]
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder, "items.png")
        poincare_disc(
            points,
            vocabulary.counts,
            vocabulary.categories,
            picture,
            title=f"Items of run {attempt.run.run_id}",
        )
        attempt.write("items.png", picture.read_bytes())


def _write_items(attempt: Attempt, model: Model, vocabulary: Vocabulary) -> None:
    """The published vectors, those of items without interactions with them."""
    everything = read_vocabulary(attempt, untrained=True)
    geometry = model.description()["geometry"]

    def complete(vectors: Tensor) -> Tensor:
        return cold.with_cold_items(
            vectors, geometry, counts=vocabulary.counts, categories=everything.categories
        )

    context = model.context_vectors()
    table = artefact.items_table(
        complete(model.item_vectors()),
        None if context is None else complete(context),
        everything.item_ids,
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    attempt.write("items.parquet", sink.getvalue().to_pybytes(), rows=table.num_rows)
