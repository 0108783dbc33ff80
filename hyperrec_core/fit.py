"""The training loop: seeded, resumable after any batch, keeping the epoch that validates best."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from hyperrec_core import models, processes
from hyperrec_core.examples import SEGMENT, Shuffled
from hyperrec_core.histories import Histories
from hyperrec_core.threads import one_blas_thread
from hyperrec_core.validate import Validation

log = logging.getLogger(__name__)

KEPT = "kept/"
"""Prefix of the best epoch's tensors in a checkpoint, once an epoch is done; the others are those
after the last batch."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why and what to change."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a model is fitted.

    Attributes:
        model: the model and its settings.
        epochs: passes over the labels; the one with the best validation NDCG@10 is kept.
        batch_size: labels a step.
        labels_per_history: at most this many labels that share a history (the rest of a basket,
            say) count in an epoch, drawn anew for each; for models that read histories.
        negatives: items drawn uniformly a step and shared by its labels.
        validation_labels: at most this many validation labels are ranked after an epoch.
        validation_negatives: drawn a label for that.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    model: models.ModelConfig = field(default_factory=models.PointsConfig)
    epochs: int = 8
    batch_size: int = 512
    labels_per_history: int = 10
    negatives: int = 300
    validation_labels: int = 5000
    validation_negatives: int = 100

    def __post_init__(self) -> None:
        for name in (
            "epochs",
            "batch_size",
            "labels_per_history",
            "negatives",
            "validation_labels",
            "validation_negatives",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"train.{name} is {getattr(self, name)}; it must be at least 1.")
        each = getattr(self.model, "negatives_per_label", 1)
        if each > self.negatives:
            raise ValueError(
                f"train.model.negatives_per_label is {each}, and a step draws only "
                f"{self.negatives} negatives: raise train.negatives."
            )


@dataclass(frozen=True)
class Epoch:
    """What one epoch did: mean loss, validation metrics (None without labels), time in seconds."""

    number: int
    loss: float
    hr_at_10: float | None
    ndcg_at_10: float | None
    seconds: float
    examples_per_second: float


@dataclass(frozen=True)
class Part:
    """What the first batches of an epoch did.

    Attributes:
        batches: how many are done.
        examples: labels in them.
        loss: summed over these, exactly the float32 to which later batches are added.
        seconds: spent on them, with what was done between them.
    """

    batches: int = 0
    examples: int = 0
    loss: float = 0.0
    seconds: float = 0.0


@dataclass
class Progress:
    """Training so far: what a checkpoint holds beside the model's tensors.

    Attributes:
        epochs: those done.
        best_epoch: the number of the one kept, 0 before the first is done.
        part: of the epoch after them, where training is in the middle of it.
    """

    epochs: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    part: Part | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain values; no `part` between epochs."""
        data = asdict(self)
        if self.part is None:
            del data["part"]
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Progress:
        """From plain values."""
        part = Part(**data["part"]) if "part" in data else None
        return cls([Epoch(**epoch) for epoch in data["epochs"]], data["best_epoch"], part)


Checkpoint = tuple[Progress, dict[str, Tensor]]
"""Where training stands, and every tensor that it needs to go on. The tensors are the model's own:
the next batch changes them, so what is to be kept must be copied or written before."""

OnBatch = Callable[[int, int, Callable[[], Checkpoint]], None]


def best_device() -> torch.device:
    """The device to train on: CUDA when there is one, the CPU otherwise."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fit(
    train: Histories,
    validation: Histories,
    config: TrainConfig,
    *,
    items: int,
    seed: int,
    device: torch.device,
    features: Tensor | None = None,
    start: dict[str, Tensor] | None = None,
    resume: Checkpoint | None = None,
    after_epoch: Callable[[Progress, dict[str, Tensor]], None] | None = None,
    on_batch: OnBatch | None = None,
) -> tuple[models.Model, Progress]:
    """Fit a model.

    Every random draw comes from the seed and the numbers of the epoch and the batch, so a run that
    resumes computes, on as many threads, what the undisturbed run does.

    Args:
        train: labels to learn from.
        validation: labels that choose the epoch; may be empty, then the last epoch is kept.
        config: model and loop settings.
        items: size of the vocabulary.
        seed: of the initial points, the order of examples and the negatives.
        device: where to compute.
        features: what each item is like; see `models.build`.
        start: every tensor of the model before its first step, as of `warm.start_state`; without
            it, the model starts untrained.
        resume: a checkpoint of an earlier call with the same data, configuration and seed.
        after_epoch: called with a checkpoint.
        on_batch: called after each batch with (examples done, examples in all) of the epoch and a
            function that makes a checkpoint, for which a GPU is waited for.

    Returns:
        The model as after its best epoch, and the record of all epochs.

    Raises:
        TrainingError: no labels to train on, several processes for a model that does not share its
            steps, or a loss that is no longer finite.
    """
    if not len(train):
        raise TrainingError(
            "There is no label to train on: no user has a purchase after an earlier event; "
            "widen the input's dates or loosen the preprocess rules."
        )
    with _deterministic(device), one_blas_thread():
        counts = torch.from_numpy(train.counts(items))
        model = models.build(
            config.model,
            counts=counts,
            users=len(train.user_ids),
            seed=seed,
            device=device,
            features=features,
        )
        try:
            learned = model.learn_from(train)
        except ValueError as error:
            raise TrainingError(str(error)) from error
        if not model.shares_steps and (size := processes.place()[1]) > 1:
            raise TrainingError(
                f"A model of model.name {config.model.name} is trained by one process and not by "
                f"{size}: start it without torchrun, or with --nproc-per-node 1."
            )
        if start is not None:
            _go_on_from(model, start)
        progress, begun = Progress(), Part()
        kept: dict[str, Tensor] = {}
        if resume is not None:
            earlier, tensors = resume
            progress = Progress(list(earlier.epochs), earlier.best_epoch)
            begun = earlier.part or begun
            _go_on_from(model, tensors)
            kept = {k.removeprefix(KEPT): v for k, v in tensors.items() if k.startswith(KEPT)}

        def checkpoint(part: Part | None = None) -> Checkpoint:
            so_far = Progress(list(progress.epochs), progress.best_epoch, part)
            return so_far, model.state() | {KEPT + k: v for k, v in kept.items()}

        judged = Validation(
            validation.aligned_to(train),
            items=items,
            lags=model.lags,
            most=config.validation_labels,
            negatives=config.validation_negatives,
            seed=seed,
        )

        for number in range(len(progress.epochs) + 1, config.epochs + 1):
            epoch = _epoch(
                model, learned, config, number, items, seed, device, begun, on_batch, checkpoint
            )
            begun = Part()
            if len(judged):
                hr, ndcg = judged.judge(model)
                epoch = replace(epoch, hr_at_10=hr, ndcg_at_10=ndcg)
            progress.epochs.append(epoch)
            if _is_best(progress, epoch):
                progress.best_epoch, kept = number, _copy(model.state())
            if after_epoch is not None:
                after_epoch(*checkpoint())
        _go_on_from(model, kept)
        return model, progress


@contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    """Make equal seeds give equal bits: by default PyTorch's scatters add in any order.

    On CUDA an operation without a deterministic kernel warns instead of failing.
    """
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=device.type != "cpu")
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)


def _epoch(
    model: models.Model,
    train: Histories,
    config: TrainConfig,
    number: int,
    items: int,
    seed: int,
    device: torch.device,
    begun: Part,
    on_batch: OnBatch | None,
    checkpoint: Callable[[Part], Checkpoint],
) -> Epoch:
    """The batches of an epoch after those it has begun with."""
    started = time.monotonic() - begun.seconds
    shuffled = Shuffled(
        train,
        seed=seed,
        number=number,
        batch_size=config.batch_size,
        lags=model.lags if model.reads_histories else 1,
        segment=SEGMENT if model.reads_histories else 1,
        per_history=config.labels_per_history,
        negatives=config.negatives,
        items=items,
    )
    examples = shuffled.examples
    total: Tensor | float = begun.loss
    batches, done = begun.batches, begun.examples

    def here() -> Checkpoint:
        loss = _finite(float(total), number, config)
        return checkpoint(Part(batches, done, loss, time.monotonic() - started))

    ready = ((len(batch.labels), model.prepare(batch)) for batch in shuffled.batches(batches))
    upcoming = [next(ready, None)]
    while (current := upcoming.pop()) is not None:
        size, batch = current
        # Linear decay to zero over the whole training.
        rate = 1.0 - ((number - 1) * examples + done) / (config.epochs * examples)
        loss = model.step(batch, rate=rate, meanwhile=lambda: upcoming.append(next(ready, None)))
        total += loss * size
        batches += 1
        done += size
        if on_batch is not None:
            on_batch(done, examples, here)
    mean = _finite(float(total), number, config) / examples
    seconds = time.monotonic() - started
    return Epoch(number, mean, None, None, seconds, examples / seconds)


def _finite(loss: float, number: int, config: TrainConfig) -> float:
    if not np.isfinite(loss):
        lengths = [n for n in ("learning_rate", "maximum_step") if hasattr(config.model, n)]
        lower = " or ".join(f"train.model.{name}" for name in lengths)
        raise TrainingError(f"The loss of epoch {number} is {loss}: lower {lower}.")
    return loss


def _is_best(progress: Progress, epoch: Epoch) -> bool:
    if epoch.ndcg_at_10 is None:
        return True
    earlier = [e.ndcg_at_10 for e in progress.epochs[:-1] if e.ndcg_at_10 is not None]
    return epoch.ndcg_at_10 > max(earlier, default=-1.0)


def _go_on_from(model: models.Model, state: dict[str, Tensor]) -> None:
    for name, tensor in model.state().items():
        tensor.copy_(state[name])


def _copy(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in state.items()}
