"""Settings of the point models, and which combinations of them make sense."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from hyperrec_core.aggregate import Aggregator
from hyperrec_core.initialise import InitialName
from hyperrec_core.losses import LossName
from hyperrec_core.models import ranges
from hyperrec_core.optim import OptimiserName
from hyperrec_core.scores import ScoreName
from hyperrec_core.spaces import Geometry


@dataclass(frozen=True, kw_only=True)
class PointsConfig:
    """Settings of the model; see `points`.

    Attributes:
        geometry: where the points live: `hyperboloid`, `euclidean` space judged by distance, or
            the same space judged by the `inner_product`.
        users: `midpoint`, of the history's items; `table`, the symmetric variant with a point for
            every user, which knows only the users of its training and is not published.
        loss: `wmrb` (eq. 15-16), `bpr` (eq. 13) or sampled `softmax`.
        score: `inner_product`, `distance` or `squared_distance`.
        dimensions: d; published vectors have d + 1 numbers.
        tables: 2 keeps one point for an item as a candidate and another for it in a history,
            which pays on dense data; 1 shares them, which pays on sparse data.
        aggregator: weights by lag: `uniform` over the whole history, as in the paper, a `window`,
            `exponential` or `learned`; see `aggregate`.
        lags: the newest items of a history that make the user, unless `uniform`.
        recency: ratio of the weights of neighbouring lags (for `learned`, before training).
        event_weights: learn a weight for each event type, too; the histories must have them.
        scale: factor on the score; a larger one means lower curvature.
        learn_scale: whether training moves the scale.
        list_size: the loss estimates ranks in a list of this size, see `losses.wmrb`.
        optimiser: `rsgd`, the paper's; `adagrad` or `adam`, adaptive by row.
        learning_rate: length of a point's first step, in distance; `rsgd`: per unit of gradient.
        maximum_step: no step is longer, in distance; the paper clips at 1.
        pull: share of its radius by which a touched point is drawn to the origin in a step.
        initial: where points start: `hypercube`, Poincaré `ball`, or at a `radius` ~ 1 / log count.
        initial_width: width of the cube, or diameter of the ball, in which points start.
        lag_learning_rate: Adagrad rate of the logarithms of lag weights, event weights and scale.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    name: Literal["points"] = "points"
    geometry: Geometry = "hyperboloid"
    users: Literal["midpoint", "table"] = "midpoint"
    loss: LossName = "wmrb"
    score: ScoreName = "inner_product"
    dimensions: int = 50
    tables: Literal[1, 2] = 2
    aggregator: Aggregator = "learned"
    lags: int = 100
    recency: float = 0.97
    event_weights: bool = False
    scale: float = 100.0
    learn_scale: bool = False
    list_size: float = 100.0
    optimiser: OptimiserName = "adagrad"
    learning_rate: float = 0.2
    maximum_step: float = 1.0
    pull: float = 0.0
    initial: InitialName = "hypercube"
    initial_width: float = 0.01
    lag_learning_rate: float = 0.05

    def __post_init__(self) -> None:
        ranges.above_zero(
            self, "lags", "scale", "list_size", "learning_rate", "maximum_step",
            "initial_width", "lag_learning_rate",
        )  # fmt: skip
        ranges.at_least(2, self, "dimensions")
        ranges.share(self, "recency")
        if not 0 <= self.pull < 1:
            raise ValueError(f"model.pull is {self.pull}; it must be from 0 to below 1.")
        if self.initial != "hypercube" and self.initial_width >= 2:
            raise ValueError(
                f"model.initial_width is {self.initial_width}; a Poincaré ball is less than 2 wide."
            )
        self._check_combination()

    def _check_combination(self) -> None:
        if self.geometry == "euclidean" and self.score == "inner_product":
            raise ValueError(
                "model.geometry euclidean is judged by distance: set model.score to distance or "
                "squared_distance, or model.geometry to inner_product."
            )
        if self.geometry == "inner_product" and self.score != "inner_product":
            raise ValueError(
                "model.geometry inner_product has no distance: set model.score to inner_product, "
                "or model.geometry to euclidean."
            )
        if self.users == "table" and self.tables == 2:
            raise ValueError(
                "model.users table has no use for the points of items in histories: set "
                "model.tables to 1."
            )
        if self.users == "table" and self.event_weights:
            raise ValueError(
                "model.event_weights weighs the items of a history, which model.users table does "
                "not look at: set one of them back."
            )
