"""What fitting, judging, publishing and reading ask of a model, whatever its geometry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor

from hyperrec_core.examples import Examples
from hyperrec_core.histories import Batch, Histories


class Model(Protocol):
    """A recommender whose score is a dot product of a user vector and an item vector.

    Any such model can be served by maximum inner product search. K is the length of both vectors;
    for the hyperboloid it is d + 1.
    """

    lags: int
    """How many of the newest items of a history the model looks at."""

    knows_users: bool
    """Whether users are rows of a table: `Batch.users` must then be those of training, and a user
    cannot be made of a history."""

    reads_histories: bool
    """Whether a label is learned from the history before it. Otherwise each is drawn by itself, and
    the history of a batch's example is one item long."""

    shares_steps: bool
    """Whether the processes of a group divide each step among them; see `processes`."""

    def learn_from(self, train: Histories) -> Histories:
        """The training set with the labels that this model learns from.

        Raises:
            ValueError: it lacks what the model's settings ask for; the message says what to do.
        """
        ...

    def prepare(self, batch: Examples) -> Any:
        """All that can be done for a step before its turn; it may run in another thread."""
        ...

    def step(self, batch: Any, *, rate: float, meanwhile: Callable[[], None]) -> Tensor | float:
        """One optimisation step.

        Args:
            batch: examples and their negatives, as `prepare` returns them.
            rate: factor on the configured learning rate, from the schedule.
            meanwhile: called once, where the step leaves a processor idle: while a GPU computes, or
                by a thread that the step has no use for.

        Returns:
            The mean loss of the batch before the step: a scalar on the device, which is not waited
            for, or a number where there is nothing to wait for.
        """
        ...

    def item_vectors(self) -> Tensor:
        """What is published for items, float32 [items, K]."""
        ...

    def context_vectors(self) -> Tensor | None:
        """Vectors that stand for items inside a history where they differ, float32 [items, K]."""
        ...

    def user_vectors(self, batch: Batch) -> Tensor:
        """What each history turns into: dot(user, item) is the score, up to a scale. [C, K]."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Every tensor that training needs to go on exactly from here.

        They are the model's own: what is copied into them is what it goes on from.
        """
        ...

    def description(self) -> dict[str, Any]:
        """What a reader must know to turn a history into a user vector: `model.json`."""
        ...
