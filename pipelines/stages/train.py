"""Stage 2: fit the model, with a checkpoint after every epoch from which a killed stage goes on."""

from __future__ import annotations

import json
import logging
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from hyperrec_core import artefact, cold, warm
from hyperrec_core.analysis.disc import poincare_disc
from hyperrec_core.fit import Checkpoint, Epoch, Progress, TrainingError, best_device, fit
from hyperrec_core.models import Model, ModelConfig, restore
from pipelines.errors import PipelineError
from pipelines.profile import Profile, parse_profile
from pipelines.progress import bar
from pipelines.runs import Attempt, Manifest, Run
from pipelines.stages.inputs import (
    Vocabulary,
    read_earlier,
    read_histories,
    read_vocabulary,
)
from pipelines.start import warm_start_run

log = logging.getLogger(__name__)


def run_train(run: Run) -> Manifest:
    """Do the train stage of a run, unless it is done.

    Raises:
        UsageError: the preprocess stage is not done, or training cannot start from the run that
            the profile names.
        PipelineError: nothing to train on, or the loss is no longer finite.
    """
    return run.finish("train", lambda attempt: _work(run, attempt))


def _work(run: Run, attempt: Attempt) -> dict[str, Any]:
    profile = parse_profile(run.record.configuration, source=f"run {run.run_id}")
    vocabulary = read_vocabulary(attempt)
    start = _start(run, attempt, profile, vocabulary)
    train = read_histories(attempt, "train", items=len(vocabulary))
    validation = read_histories(attempt, "validation", items=len(vocabulary))
    device = best_device()
    log.info(
        "Training on %s: %d items, %d training labels, %d validation labels.",
        device.type,
        len(vocabulary),
        len(train),
        len(validation),
    )
    resume = _latest_checkpoint(run)
    if resume is not None:
        log.info("Going on after epoch %d of an earlier attempt.", len(resume[0].epochs))
    last: dict[str, Tensor] = {}

    def after_epoch(progress: Progress, tensors: dict[str, Tensor]) -> None:
        _log_epoch(progress.epochs[-1], profile.train.epochs)
        name = f"{run.run_id}/train/checkpoints/epoch-{len(progress.epochs):04d}.safetensors"
        run.storage.write(name, artefact.save_checkpoint(progress, tensors))
        last.update(tensors)

    with bar("training") as move:
        try:
            model, progress = fit(
                train,
                validation,
                profile.train,
                items=len(vocabulary),
                seed=profile.seed,
                device=device,
                start=start,
                resume=resume,
                after_epoch=after_epoch,
                on_batch=move,
            )
        except TrainingError as error:
            raise PipelineError(str(error)) from error
    _write_outputs(attempt, model, progress, last or (resume[1] if resume else {}), vocabulary)
    _write_items(attempt, profile.train.model, model, vocabulary)
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


def _latest_checkpoint(run: Run) -> Checkpoint | None:
    """The newest checkpoint that can be read; an older one, or none, when it cannot."""
    names = [blob.name for blob in run.storage.list(f"{run.run_id}/train/checkpoints/")]
    for name in reversed(names):
        try:
            return artefact.load_checkpoint(run.storage.read(name))
        except artefact.ArtefactError:
            log.warning("%s cannot be read; an earlier checkpoint is used.", name)
    return None


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
    tensors: dict[str, Tensor],
    vocabulary: Vocabulary,
) -> None:
    attempt.write("model.json", json.dumps(model.description(), indent=2).encode())
    attempt.write("epochs.json", json.dumps(progress.to_json(), indent=2).encode())
    attempt.write("checkpoint.safetensors", artefact.save_checkpoint(progress, tensors))
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


def _write_items(
    attempt: Attempt, config: ModelConfig, model: Model, vocabulary: Vocabulary
) -> None:
    """The published vectors, those of items without interactions with them."""
    everything = read_vocabulary(attempt, untrained=True)
    state = cold.with_cold_items(
        config, model.state(), counts=vocabulary.counts, categories=everything.categories
    )
    published = restore(config, state, device=next(iter(state.values())).device)
    table = artefact.items_table(published, everything.item_ids)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    attempt.write("items.parquet", sink.getvalue().to_pybytes(), rows=table.num_rows)
