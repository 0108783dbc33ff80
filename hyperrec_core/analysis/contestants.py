"""Who takes part in the leaderboard: search spaces, first settings, and how each is fitted.

The tables at the top are all there is to edit. A change of a space, of the starts or of `version`
makes new cells; a change of code that changes results is said by a higher `version`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import torch
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
)

from hyperrec_core import fit as training
from hyperrec_core.aggregate import WHOLE_HISTORY
from hyperrec_core.analysis import peers
from hyperrec_core.analysis.datasets import Split
from hyperrec_core.evaluate import Scorer, model_scorer, popularity_scorer
from hyperrec_core.models import CONFIGS, PointsConfig, uses_features

Parameters = dict[str, Any]

TWINS = ("euclidean", "inner-product")
"""The hyperboloid's code in flat space: with distances, and with inner products."""


def one_of(*values: float | str) -> CategoricalDistribution:
    """One of a few values."""
    return CategoricalDistribution(values)


def between(low: float, high: float) -> FloatDistribution:
    """Any value of a range, evenly on a logarithmic scale."""
    return FloatDistribution(low, high, log=True)


# --- What is searched, and what is tried first -------------------------------------------------

# Ours: names are those of TrainConfig and its model's configuration.
FIXED: Mapping[str, Parameters] = {
    "hyperboloid": {"geometry": "hyperboloid"},
    "euclidean": {"geometry": "euclidean", "score": "distance"},
    "inner-product": {"geometry": "inner_product"},
    "hyperml": {"name": "hyperml", "batch_size": 512, "negatives": 512},
    "cml": {"name": "cml", "batch_size": 512, "negatives": 512},
    "hvacf": {"name": "hvacf", "batch_size": 512, "negatives": 512},
    "autoencoder": {"name": "autoencoder", "curvature": 0.0, "negatives": 100},
    "ball-autoencoder": {"name": "autoencoder", "negatives": 100},
}
_OURS: Mapping[str, BaseDistribution] = {
    "loss": one_of("wmrb", "softmax"),
    "list_size": one_of(10.0, 30.0, 100.0),
    "tables": one_of(1, 2),
    "dimensions": one_of(50, 100),
    "lags": one_of(20, 100, 500),
    "recency": one_of(0.8, 0.97),
    "pull": one_of(0.0, 0.001),
    "learning_rate": between(0.03, 0.5),
    "scale": between(5, 300),
}
# What is tried first: settings for sparse data, for dense data and for long histories.
_SPARSE = {
    **{"loss": "wmrb", "list_size": 100.0, "tables": 1, "dimensions": 100, "lags": 100},
    **{"recency": 0.97, "pull": 0.0, "learning_rate": 0.1},
}
_DENSE = {
    **{"loss": "wmrb", "list_size": 10.0, "tables": 2, "dimensions": 100, "lags": 100},
    **{"recency": 0.97, "pull": 0.0, "learning_rate": 0.2},
}
_LONG = {**_DENSE, "lags": 500}

# The rivals of other papers, their users made of histories, as they are served.
_TRIPLES: Mapping[str, BaseDistribution] = {
    "margin": one_of(0.1, 0.2, 0.5),
    "dimensions": one_of(64, 128),
    "negatives_per_label": one_of(1, 4),
    "learning_rate": between(0.02, 0.2),
    "lags": one_of(20, 100),
    "recency": one_of(0.8, 0.97),
}
_TRIPLES_START = {
    **{"margin": 0.5, "dimensions": 64, "negatives_per_label": 1, "learning_rate": 0.05},
    **{"lags": 20, "recency": 0.8},
}
_TABLES: Mapping[str, BaseDistribution] = {
    **_TRIPLES,
    "learning_rate": between(0.02, 0.5),
    "regularisation": one_of(0.0, 0.2, 0.5),
}
_TABLES_START = {**_TRIPLES_START, "negatives_per_label": 4}
# The papers' settings, and some for sparse data.
_TABLES_STARTS = (
    {**_TABLES_START, "regularisation": 0.0},
    {**_TABLES_START, "learning_rate": 0.2, "regularisation": 0.5},
)
_HVACF_START = {"dimensions": 50, "learning_rate": 0.02, "adjustment": 0.1}
_AUTOENCODER: Mapping[str, BaseDistribution] = {
    "loss": one_of("multinomial", "masked_mse"),
    "dimensions": one_of(64, 128),
    "dropout": one_of(0.0, 0.2, 0.5),
    "lags": one_of(100, 1000),
    "batch_size": one_of(16, 64),
    "learning_rate": between(0.001, 0.02),
}
_AUTOENCODER_START = {
    **{"loss": "multinomial", "dimensions": 64, "dropout": 0.5, "lags": 1000},
    **{"batch_size": 16, "learning_rate": 0.003},
}

SPACES: Mapping[str, Mapping[str, BaseDistribution]] = {
    "hyperboloid": {**_OURS, "score": one_of("inner_product", "distance")},
    "euclidean": {**_OURS, "score": one_of("distance", "squared_distance")},
    "inner-product": _OURS,
    "hyperml": {
        **_TABLES,
        "curvature": one_of(0.5, 1.0, 2.0, 4.0, 8.0),
        "distortion": one_of(0.0, 0.1, 0.5),
    },
    "cml": _TABLES,
    "hvacf": {
        **_TRIPLES,
        "dimensions": one_of(50, 100),
        "learning_rate": between(0.005, 0.1),
        "adjustment": one_of(0.0, 0.1, 0.5),
    },
    "autoencoder": _AUTOENCODER,
    "ball-autoencoder": {**_AUTOENCODER, "curvature": one_of(0.01, 0.1, 1.0)},
    "als": {
        "factors": one_of(32, 64, 128),
        "regularization": between(0.01, 100),
        "alpha": between(1, 50),
        "iterations": one_of(10, 20, 40),
    },
    "bpr": {
        "factors": one_of(32, 64, 128),
        "learning_rate": between(0.005, 0.1),
        "regularization": between(0.001, 0.1),
        "iterations": one_of(50, 100, 200),
    },
    "ease": {"regularization": between(1, 5000)},
    "item-knn": {"neighbours": one_of(20, 50, 100, 200, 500), "shrinkage": between(0.1, 1000)},
    "popularity": {},
}

STARTS: Mapping[str, tuple[Parameters, ...]] = {
    "hyperboloid": (
        {**_SPARSE, "score": "distance", "scale": 20.0},
        {**_DENSE, "score": "inner_product", "scale": 100.0},
        {**_LONG, "score": "inner_product", "scale": 200.0},
    ),
    # For small radii the Lorentz inner product is half the squared distance.
    "euclidean": (
        {**_SPARSE, "score": "distance", "scale": 20.0},
        {**_DENSE, "score": "squared_distance", "scale": 50.0},
        {**_LONG, "score": "squared_distance", "scale": 100.0},
    ),
    "inner-product": (
        {**_SPARSE, "scale": 50.0},
        {**_DENSE, "scale": 50.0},
        {**_LONG, "scale": 100.0},
    ),
    "hyperml": tuple({**start, "curvature": 1.0, "distortion": 0.0} for start in _TABLES_STARTS),
    "cml": _TABLES_STARTS,
    "hvacf": (
        {**_TRIPLES_START, **_HVACF_START},
        {**_TRIPLES_START, **_HVACF_START, "negatives_per_label": 4},
    ),
    "autoencoder": (_AUTOENCODER_START, {**_AUTOENCODER_START, "batch_size": 64}),
    "ball-autoencoder": (
        {**_AUTOENCODER_START, "curvature": 0.1},
        {**_AUTOENCODER_START, "batch_size": 64, "curvature": 0.1},
    ),
    "als": (
        {"factors": 64, "regularization": 0.01, "alpha": 1.0, "iterations": 20},
        {"factors": 128, "regularization": 10.0, "alpha": 10.0, "iterations": 20},
    ),
    "bpr": (
        {"factors": 64, "learning_rate": 0.01, "regularization": 0.01, "iterations": 100},
        {"factors": 32, "learning_rate": 0.05, "regularization": 0.05, "iterations": 100},
    ),
    "ease": ({"regularization": 500.0}, {"regularization": 100.0}),
    "item-knn": (
        {"neighbours": 100, "shrinkage": 10.0},
        {"neighbours": 500, "shrinkage": 100.0},
    ),
    "popularity": (),
}

# -----------------------------------------------------------------------------------------------


class OutOfTimeError(RuntimeError):
    """A trial ran past the time that its model has left."""


class Fitted(NamedTuple):
    """A scorer, and how many of the newest items of a history it asks for."""

    scorer: Scorer
    lags: int


@dataclass(frozen=True)
class Effort:
    """How long a fit may take.

    Attributes:
        epochs: of the models that have epochs.
        deadline: of `time.monotonic`, after which a fit is given up; between epochs.
    """

    epochs: int
    deadline: float


class _Fit(NamedTuple):
    """One fit's input beside its parameters."""

    split: Split
    seed: int
    effort: Effort


@dataclass(frozen=True)
class Contestant:
    """A model of the leaderboard.

    Attributes:
        title: as in the table.
        fit: from parameters and the fit's input.
        has_seed: whether its result depends on a seed.
        has_epochs: whether it is fitted in passes, of which a trial may have fewer.
        version: of the code, in so far as it changes results.
    """

    title: str
    fit: Callable[[Parameters, _Fit], Fitted]
    has_seed: bool
    has_epochs: bool = False
    version: int = 1


def fit(name: str, split: Split, parameters: Parameters, *, seed: int, effort: Effort) -> Fitted:
    """Fit a contestant.

    Raises:
        OutOfTimeError: the deadline passed between two epochs.
        peers.PeerError: the model cannot be fitted to these data.
        hyperrec_core.fit.TrainingError: training diverged.
    """
    return CONTESTANTS[name].fit(parameters, _Fit(split, seed, effort))


def identity(name: str) -> Parameters:
    """All that decides a contestant's results: JSON values."""
    contestant = CONTESTANTS[name]
    space = {key: (type(d).__name__, d._asdict()) for key, d in SPACES[name].items()}
    identity: Parameters = {
        "name": name,
        "version": contestant.version,
        "space": space,
        "starts": STARTS[name],
    }
    if name in FIXED:
        # Defaults count too: the first start names what is searched alone.
        identity["defaults"] = asdict(_config(name, STARTS[name][0], epochs=1))
    return identity


def words(value: object) -> str:
    """A searched range, the choices, or a value, for a person."""
    if isinstance(value, CategoricalDistribution):
        return "{" + ", ".join(map(words, value.choices)) + "}"
    if isinstance(value, BaseDistribution):
        low, high = value._asdict()["low"], value._asdict()["high"]
        return f"{low:g} to {high:g} (log)"
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _config(name: str, parameters: Parameters, epochs: int) -> training.TrainConfig:
    """The training configuration: defaults, under what is fixed, under the parameters."""
    parameters = FIXED[name] | parameters
    kind = CONFIGS[parameters.get("name", PointsConfig.name)]
    of_model = {field.name for field in fields(kind)}
    return training.TrainConfig(
        model=kind(**{k: v for k, v in parameters.items() if k in of_model}),
        epochs=epochs,
        **{k: v for k, v in parameters.items() if k not in of_model},
    )


def _ours(name: str) -> Callable[[Parameters, _Fit], Fitted]:
    def fitted(parameters: Parameters, what: _Fit) -> Fitted:
        def watch(*_: object) -> None:
            if time.monotonic() > what.effort.deadline:
                raise OutOfTimeError("The trial took longer than the tuning time that was left.")

        config = _config(name, parameters, what.effort.epochs)
        features = what.split.features if uses_features(config.model) else None
        model, _ = training.fit(
            what.split.train,
            what.split.validation,
            config,
            items=what.split.items,
            seed=what.seed,
            device=torch.device("cpu"),
            features=None if features is None else torch.from_numpy(features),
            after_epoch=watch,
        )
        return Fitted(model_scorer(model), model.lags)

    return fitted


def _peer(make: Callable[..., Scorer], *, has_seed: bool) -> Callable[[Parameters, _Fit], Fitted]:
    def fitted(parameters: Parameters, what: _Fit) -> Fitted:
        taken = peers.interaction_matrix(what.split.train, items=what.split.items)
        seed = {"seed": what.seed} if has_seed else {}
        return Fitted(make(taken, **parameters, **seed), WHOLE_HISTORY)

    return fitted


CONTESTANTS: Mapping[str, Contestant] = {
    "hyperboloid": Contestant("hyperboloid", _ours("hyperboloid"), has_seed=True, has_epochs=True),
    "euclidean": Contestant("Euclidean twin", _ours("euclidean"), has_seed=True, has_epochs=True),
    "inner-product": Contestant(
        "inner-product twin", _ours("inner-product"), has_seed=True, has_epochs=True
    ),
    "hyperml": Contestant("HyperML", _ours("hyperml"), has_seed=True, has_epochs=True),
    "cml": Contestant("CML", _ours("cml"), has_seed=True, has_epochs=True),
    "hvacf": Contestant("HVACF", _ours("hvacf"), has_seed=True, has_epochs=True),
    "autoencoder": Contestant("autoencoder", _ours("autoencoder"), has_seed=True, has_epochs=True),
    "ball-autoencoder": Contestant(
        "autoencoder on the ball", _ours("ball-autoencoder"), has_seed=True, has_epochs=True
    ),
    "als": Contestant("ALS", _peer(peers.als, has_seed=True), has_seed=True),
    "bpr": Contestant("BPR", _peer(peers.bpr, has_seed=True), has_seed=True),
    "ease": Contestant("EASE", _peer(peers.ease, has_seed=False), has_seed=False),
    "item-knn": Contestant("item-kNN", _peer(peers.item_knn, has_seed=False), has_seed=False),
    "popularity": Contestant(
        "popularity",
        lambda _, what: Fitted(popularity_scorer(what.split.counts), 1),
        has_seed=False,
    ),
}
