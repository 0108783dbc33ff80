"""What a reader computes of a published model is what the model was judged by.

Over the artefact, as every combination that can be published writes it, and over a Cosmos DB
endpoint.
"""

from __future__ import annotations

import io
import itertools
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from hyperrec_core import artefact
from hyperrec_core.evaluate import model_scorer
from hyperrec_core.histories import EVENT_TYPES, Histories
from hyperrec_core.models import Model, PointsConfig, build, restore
from hyperrec_core.similar import top_similar
from serving_export import userpoint
from serving_export.containers import create_missing
from serving_export.documents import Item
from tests.serving_export.publishing_support import Account

ITEMS, USERS, LONGEST, D = 40, 12, 15, 5
CPU = torch.device("cpu")
SCORES = {"hyperboloid": "inner_product", "euclidean": "distance", "inner_product": "inner_product"}
AGGREGATORS = ("uniform", "window", "exponential", "learned")
IDS = [f"i{n}" for n in range(ITEMS)]


def histories(*, events: bool) -> Histories:
    """One label a user, after histories of 1 to 14 items, shorter and longer than the lags."""
    rng = np.random.default_rng(6)
    lengths = [2 + user % (LONGEST - 1) for user in range(USERS)]
    table = {
        "user_id": [f"u{user:02d}" for user in range(USERS)],
        "items": [rng.integers(0, ITEMS, length).astype(np.int32) for length in lengths],
        "times": [np.arange(length) for length in lengths],
        "is_label": [np.arange(length) == length - 1 for length in lengths],
    }
    if events:
        kinds = len(EVENT_TYPES)
        table["events"] = [rng.integers(0, kinds, length).astype(np.int8) for length in lengths]
    return Histories.from_tables([pa.table(table)], items=ITEMS)


@dataclass
class Trained:
    """A model with every number of its own, and what training writes of it, read back."""

    model: Model
    description: dict[str, Any]
    vectors: artefact.ItemVectors

    @classmethod
    def of(cls, **settings: Any) -> Trained:
        score: Any = SCORES[settings["geometry"]]
        config = PointsConfig(
            score=score, dimensions=D, lags=6, recency=0.7, initial_width=1.5, **settings
        )
        made = build(config, counts=torch.arange(ITEMS), users=USERS, seed=8, device=CPU)
        state = made.state()
        generator = torch.Generator().manual_seed(9)
        for name in ("lag_logits", "event_logits"):
            if name in state and (name == "event_logits" or config.aggregator == "learned"):
                state[name] = torch.randn(state[name].shape, generator=generator)
        model = restore(config, state, device=CPU)
        sink = io.BytesIO()
        pq.write_table(
            artefact.items_table(model.item_vectors(), model.context_vectors(), IDS), sink
        )
        return cls(
            model,
            json.loads(json.dumps(model.description())),
            artefact.read_items(sink.getvalue()),
        )

    def items(self, *, similar: int = 0) -> list[Item]:
        flat = self.description["geometry"] != "hyperboloid"
        live = np.arange(ITEMS) % 4 != 3
        near, scores = top_similar(self.vectors.target, flat=flat, k=similar, allowed=live)
        return [
            Item(
                IDS[n],
                self.vectors.target[n],
                None if self.vectors.context is None else self.vectors.context[n],
                ITEMS - n,
                is_live=bool(live[n]),
                similar=tuple(
                    (IDS[other], float(score))
                    for other, score in zip(near[n], scores[n], strict=True)
                ),
            )
            for n in range(ITEMS)
        ]


def judged(model: Model, data: Histories) -> np.ndarray:
    """Scores of all items for every user, as the evaluate stage has them. [USERS, ITEMS]."""
    found: np.ndarray = model_scorer(model)(data.batch(np.arange(USERS), lags=model.lags)).numpy()
    return found


def past(data: Histories, user: int) -> tuple[list[int], list[str] | None]:
    """The items before the label, oldest first, and their event types."""
    part = slice(int(data.offsets[user]), int(data.ends[user]))
    kinds = None if data.events is None else [EVENT_TYPES[kind] for kind in data.events[part]]
    return data.items[part].tolist(), kinds


@pytest.mark.parametrize("events", [False, True], ids=["ids", "events"])
@pytest.mark.parametrize(
    ("geometry", "tables", "aggregator"), list(itertools.product(SCORES, (1, 2), AGGREGATORS))
)
def test_the_artefact_gives_the_scores_of_the_model(
    geometry: str, tables: int, aggregator: str, *, events: bool
) -> None:
    trained = Trained.of(
        geometry=geometry, tables=tables, aggregator=aggregator, event_weights=events
    )
    data = histories(events=events)
    vectors = trained.vectors
    table = vectors.target if vectors.context is None else vectors.context
    expected = judged(trained.model, data)
    for user in range(USERS):
        items, kinds = past(data, user)
        most = userpoint.most_items(trained.description)
        assert most == (None if aggregator == "uniform" else 6)
        newest_first = items[::-1][:most]
        told = None if kinds is None else kinds[::-1][:most]
        point = userpoint.user_point(trained.description, table[newest_first], told)
        assert point.dtype == np.float32
        np.testing.assert_allclose(vectors.target @ point, expected[user], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("geometry", "tables", "aggregator", "events"),
    [
        ("hyperboloid", 2, "learned", True),
        ("hyperboloid", 1, "uniform", False),
        ("euclidean", 1, "exponential", False),
        ("euclidean", 2, "uniform", True),
        ("inner_product", 1, "learned", True),
        ("inner_product", 2, "window", False),
    ],
)
def test_cosmos_gives_the_scores_of_the_model(
    empty_account: Account, geometry: str, tables: int, aggregator: str, *, events: bool
) -> None:
    account = empty_account
    create_missing(account.endpoint, account.key, D + 1, database=account.database)
    trained = Trained.of(
        geometry=geometry, tables=tables, aggregator=aggregator, event_weights=events
    )
    account.publish("v1", trained.items(), model=trained.description)
    data = histories(events=events)
    expected = judged(trained.model, data)
    with account.reader() as reader:
        for user in (0, 5, LONGEST - 4):
            items, kinds = past(data, user)
            found = reader.recommend(
                [IDS[n] for n in items], ITEMS, events=kinds, exclude_seen=False, live_only=False
            )
            assert [each.item_id for each in found] == [
                IDS[n] for n in np.argsort(-expected[user], kind="stable")
            ]
            np.testing.assert_allclose(
                [each.score for each in found], np.sort(expected[user])[::-1], rtol=2e-5, atol=2e-5
            )


@pytest.mark.parametrize("geometry", SCORES)
def test_similar_items_are_the_same_published_or_searched(
    empty_account: Account, geometry: str
) -> None:
    account = empty_account
    create_missing(account.endpoint, account.key, D + 1, database=account.database)
    trained = Trained.of(geometry=geometry, tables=1, aggregator="learned")
    with account.reader(refresh_seconds=0.0) as reader:
        account.publish("listed", trained.items(similar=8), model=trained.description)
        listed = [reader.similar(IDS[n], 8) for n in range(5)]
        account.publish("searched", trained.items(), model=trained.description)
        searched = [reader.similar(IDS[n], 8) for n in range(5)]
    assert [[s.item_id for s in near] for near in listed] == [
        [s.item_id for s in near] for near in searched
    ]
    np.testing.assert_allclose(
        [[s.score for s in near] for near in listed],
        [[s.score for s in near] for near in searched],
        rtol=1e-5,
        atol=1e-5,
    )
    if geometry == "euclidean":
        space = trained.vectors.target[:, 1:].astype(float)
        live = [n for n in range(1, ITEMS) if n % 4 != 3]
        nearest = sorted(live, key=lambda n: float(np.linalg.norm(space[n] - space[0])))
        assert [s.item_id for s in listed[0]] == [IDS[n] for n in nearest[:8]]


def test_a_symmetric_model_is_refused_by_its_own_description() -> None:
    trained = Trained.of(geometry="hyperboloid", tables=1, users="table")
    with pytest.raises(userpoint.ExportError, match=r"train\.model\.users midpoint"):
        userpoint.user_point(trained.description, trained.vectors.target[:1])
