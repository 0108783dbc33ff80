"""HVACF: items of what they look like, users of what they took, on the Poincaré ball.

Shimizu et al. 2024, "A Fashion Item Recommendation Model in Hyperbolic Space" (CVFAD at CVPR,
arXiv:2409.02599): Hyperbolic Visual Attentive Collaborative Filtering. From it are the ball, the
item side of frozen image features, the neighbour-attentive aggregation of the purchase history,
one loss of hyperbolic and of Euclidean distances together, an adjustment weighted by gamma,
Riemannian Adam, d = 50 and batches of 512. How it writes them down was not at hand: the equations
are our reading, each from a work that the paper builds on, and may differ from those it prints:

    item        v_j = p_j (+) exp0(W x_j)        p_j a point of its own, x_j the frozen features
    attention   a_l = h . tanh(K log0(v_l) + Q log0(q) + b), over the items l of the history
                as in the model that gave it its name, ACF (Chen et al. 2017, eq. 6-7)
    user        u = o (+) midpoint of the v_l by the weights softmax(a)_l recency^lag
    distances   d(x, y) = 2 artanh |(-x) (+) y|, d_E(x, y) = 2 |log0(x) - log0(y)|
    together    L = [m + d(u, j)^2 - d(u, k)^2]_+ + [m + d_E(u, j)^2 - d_E(u, k)^2]_+ + gamma A
    adjustment  A = |d - d_E| / d_E of (u, j), and of (u, k)         (HyperML's eq. 12)

(+) is Möbius addition, curvature -1, and the midpoint Einstein's, as Gulcehre et al. 2019
aggregate by attention. Near the origin both distances are one; A keeps them so farther out.

What asks is `q`. With `users` `midpoint` it is the midpoint of the history without attention, and o
the origin: a user is made of the history alone, as a reader makes it. With `table` both are a point
of the user's own, as ACF's users have one; such a model is judged and not served. Either way an
item is predicted from those before it.

Without features (`features` off, or none given) an item is its own point. An item that has none
has a row of zeros, and so its own point alone, too.

Points are kept in the hyperboloid's coordinates, of the same space, where `optim` moves them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperrec_core import attention, initialise, optim
from hyperrec_core.attention import Past
from hyperrec_core.examples import Examples
from hyperrec_core.geometry import lorentz, poincare
from hyperrec_core.histories import Batch, Histories, ramp
from hyperrec_core.models import ranges
from hyperrec_core.models.triplets import TripletsConfig
from hyperrec_core.scores import Score
from hyperrec_core.spaces import Hyperboloid
from hyperrec_core.threads import one_thread

_TARGET, _USERS, _PROJECTION, _SIDE = "target", "users", "projection", "side"

_WIDTH = 16  # of the attention: its numbers go into `model.json`
_SPREAD = 0.02  # of the cube in which points start, as HyperML's

# No step is longer, in distance: a row that many of a batch's triples share would be thrown out.
_LONGEST_STEP = 0.2

# Tangent vectors nearer than this are taken to be this far apart, where 0 would divide by 0.
_NEAREST = 1e-6


@dataclass(frozen=True, kw_only=True)
class HVACFConfig(TripletsConfig):
    """Settings of HVACF; see the module, and `TripletsConfig` for those of its users.

    Attributes:
        margin: m, of both distances.
        adjustment: gamma, what the adjustment weighs; 0 leaves it out.
        euclidean: whether Euclidean distances are learned from, too.
        attention: whether the history is weighed by attention, or by recency alone.
        features: whether the items' features count, where there are any.
    """

    name: Literal["hvacf"] = "hvacf"
    lags: int = 20
    dimensions: int = 50
    learning_rate: float = 0.02
    margin: float = 0.5
    adjustment: float = 0.1
    euclidean: bool = True
    attention: bool = True
    features: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        ranges.above_zero(self, "margin")
        ranges.not_below_zero(self, "adjustment")


class _Triples(NamedTuple):
    """A step's triples.

    Shapes: `rows` int64 [r], the distinct items of the step, and all others are places in it:
    those of `past`; `positives` int64 [B], `negatives` int64 [B, M]. `context` int64 [B], the
    history of each label; `users` int64 [C]; `counts` float32 [B, M], 0 where the user has
    interacted with the negative after all, else 1.
    """

    rows: Tensor
    past: Past
    positives: Tensor
    negatives: Tensor
    context: Tensor
    users: Tensor
    counts: Tensor


class HVACF:
    """Parameters of the model and its optimisers' memory of them, on one device."""

    reads_histories = True
    shares_steps = False

    def __init__(
        self, config: HVACFConfig, state: dict[str, Tensor], features: Tensor | None = None
    ) -> None:
        """A model from `build`, or from the `state` of another of this configuration.

        Args:
            config: settings of the model.
            state: every tensor of it.
            features: float32 [items, F], to train it; a state alone can be judged and served.
        """
        self.lags = config.lags
        self.knows_users = config.users == "table"
        self.config, self._state, self._features = config, state, features
        self._space = Hyperboloid()
        self._weights = torch.tensor([config.recency**lag for lag in range(config.lags)])

    def learn_from(self, train: Histories) -> Histories:
        return train

    def prepare(self, batch: Examples) -> _Triples:
        histories = np.arange(len(batch.lengths))
        segment = np.repeat(np.arange(len(batch.rows)), np.diff(batch.heads))  # of each history
        owner, lags = np.repeat(histories, batch.lengths), ramp(batch.lengths.astype(np.int64))
        past = batch.items[(batch.segments[segment] + batch.ends - 1)[owner] - lags]
        context = np.repeat(histories, np.diff(batch.first_labels))
        dealt, seen = batch.deal(segment[context], self.config.negatives_per_label)
        met = np.concatenate((past, batch.labels, dealt.ravel()))
        rows, place = np.unique(met, return_inverse=True)
        device = self._state[_TARGET].device

        def moved(x: NDArray[np.integer[Any]]) -> Tensor:
            return torch.from_numpy(x.astype(np.int64)).to(device)

        items, positives, negatives = np.split(place, [len(past), len(past) + len(batch.labels)])
        return _Triples(
            moved(rows),
            Past(moved(items), moved(lags), moved(owner), len(histories)),
            moved(positives),
            moved(negatives.reshape(dealt.shape)),
            moved(context),
            moved(batch.rows[segment]),
            torch.from_numpy(~seen).float().to(device),
        )

    def step(self, batch: _Triples, *, rate: float, meanwhile: Callable[[], None]) -> Tensor:
        # A step's tensors are small: a second thread would cost more than it does.
        with one_thread():
            loss = self._step(batch, rate * self.config.learning_rate)
        meanwhile()
        return loss

    def _step(self, batch: _Triples, rate: float) -> Tensor:
        touched = {_TARGET: batch.rows}
        place = batch.users
        if self.knows_users:
            touched[_USERS], place = torch.unique(batch.users, return_inverse=True)
        leaves = {name: self._state[name][rows] for name, rows in touched.items()}
        leaves |= {name: self._state[name].detach() for name in self.parameters()}
        leaves = {name: x.requires_grad_() for name, x in leaves.items()}
        with torch.enable_grad():
            loss = self.loss(leaves, batch, place)
            gradients = torch.autograd.grad(loss, list(leaves.values()))
        moves = dict(zip(leaves, gradients, strict=True))
        for name, rows in touched.items():
            self._move(name, rows, moves.pop(name), rate)
        optim.adam_(self._state, moves, learning_rate=rate)
        return loss.detach()

    def _move(self, name: str, rows: Tensor, gradient: Tensor, rate: float) -> None:
        remembered = ("momentum", "second", "steps")
        optim.step_(
            "adam",
            self._space,
            self._state[name],
            {part: self._state[f"{name}.{part}"] for part in remembered},
            rows,
            gradient,
            learning_rate=rate,
            maximum_step=_LONGEST_STEP,
            pull=0.0,
        )

    def loss(self, leaves: Mapping[str, Tensor], batch: _Triples, place: Tensor) -> Tensor:
        """The mean loss of a step's triples, a scalar.

        Args:
            leaves: the touched rows of the tables, and the parameters.
            batch: the triples.
            place: the row in `leaves` of each history's user, int64 [C], where users have any.
        """
        side = None
        if self._features is not None:
            side = self._features[batch.rows] @ leaves[_PROJECTION].T
        items = _on_ball(leaves[_TARGET], side)
        own = poincare.from_lorentz(leaves[_USERS])[place] if self.knows_users else None
        users = self._users(leaves, items, batch.past, own)[batch.context].unsqueeze(1)
        near, far = items[batch.positives].unsqueeze(1), items[batch.negatives]
        config = self.config
        curved = [poincare.distance(users, x) for x in (near, far)]
        loss = _hinge(config.margin, *curved)
        if config.euclidean or config.adjustment:
            tangent = poincare.log_origin(users)
            flat = [2.0 * (tangent - poincare.log_origin(x)).norm(dim=-1) for x in (near, far)]
            if config.euclidean:
                loss = loss + _hinge(config.margin, *flat)
            for d, e in zip(curved, flat, strict=True):
                loss = loss + config.adjustment * (d - e).abs() / e.clamp_min(_NEAREST)
        mean: Tensor = (loss * batch.counts).sum() / batch.counts.sum().clamp_min(1.0)
        return mean

    def _users(
        self, state: Mapping[str, Tensor], items: Tensor, past: Past, own: Tensor | None
    ) -> Tensor:
        """Users of histories on the ball, [C, d], of items there [n, d] and their own points."""
        weights = self._weights.to(items)[past.lags]
        middle = attention.midpoints(items, past, weights)
        if self.config.attention:
            asking = middle if own is None else own
            weights = weights * attention.weights(state, items, past, asking)
            middle = attention.midpoints(items, past, weights)
        return middle if own is None else poincare.mobius_add(own, middle)

    def parameters(self) -> list[str]:
        """Names of the tensors in flat space that training moves."""
        return [name for name in (_PROJECTION, *attention.PARAMETERS) if name in self._state]

    def item_vectors(self) -> Tensor:
        points = poincare.to_lorentz(_on_ball(self._state[_TARGET], self.state().get(_SIDE)))
        return Score(self._space, "distance").published(points)

    def context_vectors(self) -> Tensor | None:
        return None

    def user_vectors(self, batch: Batch) -> Tensor:
        rows, place = torch.unique(batch.index, return_inverse=True)
        items = self._items(rows)
        sizes = torch.diff(batch.offsets, append=batch.offsets.new_tensor([len(batch.index)]))
        owner = torch.repeat_interleave(sizes)
        own = None
        if self.knows_users:
            # A user whom training has not seen has no point; the origin stands in.
            points = poincare.from_lorentz(self._state[_USERS][batch.users.clamp_min(0)])
            own = torch.where((batch.users >= 0).unsqueeze(1), points, 0.0)
        past = Past(place, batch.lags, owner, len(sizes))
        return poincare.to_lorentz(self._users(self._state, items, past, own))

    def _items(self, rows: Tensor) -> Tensor:
        side = self._state[_SIDE][rows] if _SIDE in self._state else None
        if self._features is not None:
            side = self._features[rows] @ self._state[_PROJECTION].T
        return _on_ball(self._state[_TARGET][rows], side)

    def state(self) -> dict[str, Tensor]:
        # What features come to is in the state, so that it is judged and served without them.
        if self._features is not None:
            self._state[_SIDE].copy_(self._features @ self._state[_PROJECTION].T)
        return self._state

    def description(self) -> dict[str, Any]:
        aggregator: dict[str, Any] = {"kind": "exponential", "lag_weights": self._weights.tolist()}
        if self.config.attention:
            found = {name: self._state[name].tolist() for name in attention.PARAMETERS}
            aggregator |= {"kind": "attention"} | found
        return {
            "name": self.config.name,
            "format": 2,
            "package": metadata.version("hyperrec"),
            "geometry": "hyperboloid",
            "d": self.config.dimensions,
            "users": self.config.users,
            "score": "distance",
            "scale": 1.0,
            "tables": 1,
            "aggregator": {"kind": "none"} if self.knows_users else aggregator,
        }


def _on_ball(points: Tensor, side: Tensor | None) -> Tensor:
    """Items on the ball, [n, d], of points [n, d + 1] and what features add, [n, d] or None."""
    own = poincare.from_lorentz(points)
    if side is None:
        return own
    items: Tensor = poincare.project(poincare.mobius_add(own, poincare.exp_origin(side)))
    return items


def _hinge(margin: float, near: Tensor, far: Tensor) -> Tensor:
    """[m + near^2 - far^2]_+; [B, 1], [B, M] -> [B, M]."""
    loss: Tensor = (margin + near.square() - far.square()).clamp_min(0.0)
    return loss


def build(
    config: HVACFConfig,
    *,
    counts: Tensor,
    users: int,
    seed: int,
    device: torch.device,
    features: Tensor | None = None,
) -> HVACF:
    """An untrained model; see `models.build`."""
    generator = torch.Generator().manual_seed(seed)
    d = config.dimensions
    state = {}
    for name, rows in {_TARGET: len(counts), _USERS: users}.items():
        if name == _TARGET or config.users == "table":
            spatial = initialise.hypercube(rows, d, width=_SPREAD, generator=generator)
            points = lorentz.from_spatial(spatial).to(device)
            state[name] = points
            remembered = optim.new_state("adam", points)
            state |= {f"{name}.{part}": tensor for part, tensor in remembered.items()}

    def normal(rows: int, columns: int, into: int) -> Tensor:
        return torch.randn(rows, columns, generator=generator) / math.sqrt(into)

    parameters = {}
    features = features.to(device) if features is not None and config.features else None
    if features is not None:
        # What features of length 1 add is at first about as long as a point is far out.
        parameters[_PROJECTION] = _SPREAD * normal(d, features.shape[1], d)
        state[_SIDE] = torch.zeros(len(counts), d, device=device)
    if config.attention:
        # A head of 0 weighs all alike: training starts from the plain midpoint.
        drawn = (normal(_WIDTH, d, d), normal(_WIDTH, d, d))
        zeros = (torch.zeros(_WIDTH), torch.zeros(_WIDTH))
        parameters |= dict(zip(attention.PARAMETERS, (*drawn, *zeros), strict=True))
    for name, tensor in parameters.items():
        state[name] = tensor.to(device)
        state[f"{name}.mean"] = torch.zeros_like(tensor, device=device)
        state[f"{name}.square"] = torch.zeros_like(tensor, device=device)
    state["steps"] = torch.tensor([0])
    return HVACF(config, state, features)


def restore(config: HVACFConfig, state: dict[str, Tensor]) -> HVACF:
    """The model of a state, to judge and to serve; see `models.restore`."""
    return HVACF(config, state)
