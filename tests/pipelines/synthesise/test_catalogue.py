"""The synthetic shop: exact counts, valid rows, and a latent space that matters."""

from collections import defaultdict
from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperrec_core.analysis import powerlaw_fit
from pipelines.synthesise import (
    CatalogueConfig,
    block_count,
    block_interactions,
    interactions,
    items_table,
    shelves,
)
from pipelines.synthesise.latent import SLOT_DAYS, disc_radius, item_points, user_points

LAST_DAY = date(2024, 6, 30)
DEMO = CatalogueConfig(
    users=3_000, items=1_500, interactions=60_000, days=180, last_day=LAST_DAY, seed=7
)


def sized(config: CatalogueConfig = DEMO, **changes: int) -> CatalogueConfig:
    return CatalogueConfig(**{**vars(config), **changes})


def number(column: pa.ChunkedArray) -> np.ndarray:
    """The index behind each identifier, "i000042" -> 42."""
    return pc.utf8_slice_codeunits(column, 1).cast(pa.int64()).to_numpy()


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    """The demo's rows, by user and time, with the indices behind the identifiers."""
    table = pa.concat_tables([part for _, part in interactions(DEMO)])
    table = table.append_column("user", pa.array(number(table["user_id"])))
    table = table.append_column("item", pa.array(number(table["item_id"])))
    return table.sort_by([("user", "ascending"), ("event_time", "ascending")])


@settings(max_examples=40, deadline=None)
@given(
    users=st.integers(1, 40),
    items=st.integers(1, 40),
    count=st.integers(1, 300),
    days=st.integers(1, 60),
    seed=st.integers(0, 2**32),
)
def test_any_size_gives_exactly_the_rows_asked_for_and_all_valid(users, items, count, days, seed):
    config = sized(users=users, items=items, interactions=count, days=days, seed=seed)
    catalogue = items_table(config)
    assert catalogue.num_rows == items
    first_seen = dict(
        zip(catalogue["item_id"].to_pylist(), catalogue["first_seen"].to_pylist(), strict=True)
    )
    total, seen = 0, set()
    for day, part in interactions(config):
        assert config.first_day <= day <= LAST_DAY
        assert day not in seen  # one block here, so a day comes once
        seen.add(day)
        total += part.num_rows
        for row in part.to_pylist():
            assert row["event_time"].date() == day
            assert row["event_time"] >= first_seen[row["item_id"]]
            assert int(row["user_id"][1:]) < users
            assert row["price"] > 0
            assert (row["quantity"] is None) == (row["event_type"] == "view")
            assert row["quantity"] is None or row["quantity"] > 0
    assert total == count


def test_schema_is_the_raw_contract(rows):
    _, part = next(iter(interactions(DEMO)))
    utc = pa.timestamp("us", tz="UTC")
    assert part.schema.names == [
        *("user_id", "item_id", "event_type", "event_time", "quantity", "price", "market")
    ]
    assert part.schema.field("event_time").type == utc
    catalogue = items_table(DEMO)
    assert catalogue.schema.names == ["item_id", "category", "is_live", "first_seen", "title"]
    assert catalogue.schema.field("category").type == pa.list_(pa.string())
    assert catalogue.schema.field("first_seen").type == utc
    assert set(pc.list_value_length(catalogue["category"]).to_pylist()) == {2, 3}
    assert len(set(catalogue["title"].to_pylist())) == DEMO.items
    shares = {e["values"]: e["counts"] for e in rows["event_type"].value_counts().to_pylist()}
    assert shares["purchase"] > 0.55 * DEMO.interactions
    assert shares["view"] > shares["add_to_bag"] > 0
    assert len(np.unique(rows["user"])) == DEMO.users


def test_same_seed_same_rows_and_another_seed_others():
    small = sized(interactions=4_000)
    first, again = ([p for _, p in interactions(small)] for _ in range(2))
    assert first == again
    assert items_table(small) == items_table(small)
    other = [part for _, part in interactions(sized(small, seed=8))]
    assert other != first


def test_a_block_made_alone_is_the_block_of_the_whole():
    config = sized(users=20_000, interactions=1_200_000, days=60)
    blocks = block_count(config)
    assert blocks == 3
    by_day = defaultdict(list)
    for day, part in interactions(config):
        by_day[day].append(part)
    alone = dict(block_interactions(config, shelves(config), blocks - 1))
    assert {day: parts[-1] for day, parts in by_day.items()} == alone
    users = [set(p["user_id"].unique().to_pylist()) for p in by_day[LAST_DAY]]
    assert not users[0] & users[1] | users[1] & users[2]
    assert sum(p.num_rows for parts in by_day.values() for p in parts) == config.interactions


def test_item_degrees_follow_the_power_law_of_the_paper():
    """Maximum likelihood (Clauset et al. 2009, eq. 3.7) over the top tenth of the items.

    The package powerlaw, which chooses for itself where the law begins, finds the same.
    """
    config = sized(users=30_000, items=15_000, interactions=900_000, days=365)
    degree = np.zeros(config.items, dtype=np.int64)
    for _, part in interactions(config):
        degree += np.bincount(number(part["item_id"]), minlength=config.items)
    tail = np.sort(degree)[-config.items // 10 :]
    exponent = 1 + len(tail) / np.log(tail / (tail[0] - 0.5)).sum()
    assert exponent == pytest.approx(2.57, abs=0.15)
    law = powerlaw_fit.fit(degree[degree > 0])
    assert law.alpha == pytest.approx(2.57, abs=0.15)
    assert law.tail > config.items / 100


def test_items_are_retired_and_sold_only_while_on_sale(rows):
    live = items_table(DEMO)["is_live"].to_numpy()
    assert 0.3 < live.mean() < 0.8
    points = item_points(DEMO)
    slot = (rows["event_time"].to_numpy() - np.datetime64(DEMO.first_day)) // np.timedelta64(
        SLOT_DAYS, "D"
    )
    item = rows["item"].to_numpy()
    assert (slot >= points.first_slot[item]).all()
    assert (slot < points.end_slot[item]).all()


def test_departments_are_sectors_of_the_circle_and_kinds_sectors_of_theirs():
    by_angle = np.argsort(item_points(DEMO).angle)
    paths = items_table(DEMO)["category"].take(pa.array(by_angle)).to_pylist()
    for depth in (1, 2):
        prefixes = [tuple(path[:depth]) for path in paths]
        changes = sum(a != b for a, b in pairwise(prefixes))
        assert changes == len(set(prefixes)) - 1


def test_sessions_stay_near_one_point_and_end_with_purchases(rows):
    user, item = rows["user"].to_numpy(), rows["item"].to_numpy()
    time = rows["event_time"].to_numpy()
    follows = (user[1:] == user[:-1]) & (np.diff(time) < np.timedelta64(10, "m"))
    assert follows.sum() > 0.6 * len(rows)
    angle = item_points(DEMO).angle[item]
    within = turn(angle[1:], angle[:-1])[follows]
    anywhere = turn(angle, np.random.default_rng(0).permutation(angle))
    assert np.median(within) < 0.3 * np.median(anywhere)
    types = rows["event_type"].to_numpy()
    looks_first = (types[:-1] == "view") & (types[1:] == "purchase") & follows
    looks_last = (types[:-1] == "purchase") & (types[1:] == "view") & follows
    assert looks_last.sum() < 0.1 * looks_first.sum()


def test_the_latent_space_says_much_more_than_popularity(rows):
    """HR@10 of each user's last purchase against 100 uniform negatives.

    The oracle ranks by hyperbolic distance to the user's position on that day. Measured on the
    demo's configuration, seeds 7 to 10: oracle 0.85 to 0.87, popularity 0.48 to 0.52.
    """
    bought = rows.filter(pc.field("event_type") == "purchase")
    user, item = bought["user"].to_numpy(), bought["item"].to_numpy()
    is_last = np.append(user[1:] != user[:-1], True)
    popularity = np.bincount(item[~is_last], minlength=DEMO.items)
    day = (bought["event_time"].to_numpy() - np.datetime64(DEMO.first_day)) // np.timedelta64(
        1, "D"
    )
    user, item, day = user[is_last], item[is_last], day[is_last]

    rng = np.random.default_rng(0)
    known = np.zeros((DEMO.users, DEMO.items), dtype=bool)
    known[rows["user"].to_numpy(), rows["item"].to_numpy()] = True
    order = np.argsort(rng.random((len(user), DEMO.items)) + known[user], axis=1)
    candidates = np.column_stack([item, order[:, :100]])

    users, points = user_points(DEMO, 0), item_points(DEMO)
    assert disc_radius(DEMO) >= max(users.radius.max(), points.radius.max())
    delta = turn(points.angle[candidates], users.angle_at(user, day)[:, None])
    r_user, r_item = users.radius[user][:, None], points.radius[candidates]
    cosh = np.cosh(r_user - r_item) + np.sinh(r_user) * np.sinh(r_item) * (1 - np.cos(delta))
    oracle = hit_rate(-np.arccosh(cosh))
    popular = hit_rate(popularity[candidates])
    assert oracle > 0.8
    assert oracle > 1.5 * popular


def turn(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angle between directions, in [0, π]."""
    return np.abs((a - b + np.pi) % (2 * np.pi) - np.pi)


def hit_rate(score: np.ndarray) -> float:
    """Share of rows whose first column is among the ten highest; a tie counts half a place."""
    above = (score[:, 1:] > score[:, :1]).sum(axis=1)
    level = (score[:, 1:] == score[:, :1]).sum(axis=1)
    return float((above + level / 2 < 10).mean())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"users": 0}, "users"),
        ({"items": -1}, "items"),
        ({"interactions": 0}, "interactions"),
        ({"days": 0}, "days"),
        ({"seed": -1}, "seed"),
        ({"users": 1}, "more than 10000 for each of 1 users"),
        ({"items": 1 << 31}, "items"),
        ({"days": 20_000}, "2000-01-01"),
    ],
)
def test_a_wrong_size_is_refused_by_name(changes, said):
    with pytest.raises(ValueError, match=said):
        sized(**changes)


def test_the_period_ends_on_the_last_day():
    days = {day for day, _ in interactions(DEMO)}
    assert max(days) == LAST_DAY
    assert min(days) == LAST_DAY - timedelta(days=DEMO.days - 1)


def test_no_person_joins_so_late_that_a_day_has_a_thousand_events():
    config = sized(users=1_000_000, items=132_399, interactions=28_000_000, days=365)
    busy = 0
    for block in range(0, block_count(config), 4):
        users = user_points(config, block)
        daily = users.events / (config.days * (1 - users.joined))
        assert daily[users.joined > 0].max() <= 200.001
        busy += np.count_nonzero((daily > 50) & (users.joined > 0))
    assert busy > 0
