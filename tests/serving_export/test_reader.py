"""What services read: items, user points, recommendations, similar items, of one version.

The answers are the same from Cosmos DB and from memory, so both are asked.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from infra.local.published_keys import COSMOS_KEY
from serving_export.documents import Item
from serving_export.errors import ExportError, NothingPublishedError, UnknownItemError
from serving_export.reader import Reader, Recommendation, Search
from tests.serving_export.publishing_support import MODEL, Account, make_items

ITEMS = make_items(60)
VECTORS = np.stack([item.vector for item in ITEMS]).astype(float)
BY_ID = {item.item_id: item for item in ITEMS}


def expected_user(history: list[str]) -> np.ndarray:
    """The Lorentz centroid written out: newest first, weights 1, 1/2, 1/4."""
    total = np.zeros(VECTORS.shape[1])
    for weight, item_id in zip([1.0, 0.5, 0.25], history[::-1], strict=False):
        context = BY_ID[item_id].context
        assert context is not None
        total += weight * context.astype(float) * np.r_[-1.0, np.ones(len(total) - 1)]
    return total / np.sqrt(total[0] ** 2 - total[1:] @ total[1:])


def ranked(user: np.ndarray) -> list[str]:
    return [ITEMS[n].item_id for n in np.argsort(-(VECTORS @ user), kind="stable")]


def ids(found: list[Recommendation]) -> list[str]:
    return [each.item_id for each in found]


@pytest.fixture(scope="module")
def shop(endpoint: str) -> Account:
    """An account with one version, for tests that publish nothing."""
    account = Account(endpoint, COSMOS_KEY, f"shop-{uuid.uuid4().hex[:12]}")
    account.create_containers()
    account.publish("v1", ITEMS)
    return account


@pytest.fixture(params=["cosmos", "memory"])
def search(request: pytest.FixtureRequest) -> Search:
    way: Search = request.param
    return way


@pytest.fixture
def reader(shop: Account, search: Search) -> Iterator[Reader]:
    with shop.reader(search=search) as reader:
        yield reader


def test_nothing_published_is_told(account: Account, search: Search) -> None:
    with account.reader(search=search) as reader:
        for _ in range(2):
            with pytest.raises(NothingPublishedError, match="publish one"):
                reader.recommend(["i1"], 3)
        account.publish("v1", ITEMS)
        assert len(reader.recommend(["i1"], 3)) == 3


def test_get_returns_the_known_in_the_order_asked_for(reader: Reader) -> None:
    wanted = ["i40", "nobody", "i3", "", "\ud800", "i40", "a/b?#"]
    assert list(reader.get(wanted).items()) == [("i40", BY_ID["i40"]), ("i3", BY_ID["i3"])]
    assert reader.get([]) == {}
    assert reader.get([i.item_id for i in ITEMS]) == BY_ID


def test_any_number_of_ids_of_any_length_is_read(reader: Reader) -> None:
    # One query text with all of these would be of megabytes, and the service takes 512 KB.
    long = [f"{n}{'🧶' * 250}" for n in range(300)]
    many = [f"nobody {n}" for n in range(1200)]
    assert reader.get([*many, *BY_ID, *long]) == BY_ID


def test_user_point_takes_the_newest_known_items(reader: Reader) -> None:
    short, long = ["i5", "i9"], ["i1", "i2", "i3", "i4", "i5", "i9", "i7"]
    np.testing.assert_allclose(reader.user_point(short), expected_user(short), rtol=1e-5)
    np.testing.assert_allclose(reader.user_point(long), expected_user(long), rtol=1e-5)
    unknown_between = ["i5", "x", "i9", "y", "z", "w", "i7", "q"]
    np.testing.assert_allclose(
        reader.user_point(unknown_between), expected_user(["i5", "i9", "i7"]), rtol=1e-5
    )
    twice = ["i9", "i7", "i7"]
    np.testing.assert_allclose(reader.user_point(twice), expected_user(twice), rtol=1e-5)
    with pytest.raises(UnknownItemError, match="None of the 2 items"):
        reader.user_point(["x", "y"])


def test_recommend_ranks_as_the_model_does(reader: Reader) -> None:
    history = ["i5", "i9", "i7"]
    user = expected_user(history)
    live = [item_id for item_id in ranked(user) if BY_ID[item_id].is_live]
    found = reader.recommend(history, 10)
    assert ids(found) == [item_id for item_id in live if item_id not in history][:10]
    assert found[0].title == BY_ID[found[0].item_id].title
    best = BY_ID[found[0].item_id].vector.astype(float) @ user
    assert found[0].score == pytest.approx(best, rel=1e-5)
    assert ids(reader.recommend(history, 10, exclude_seen=False)) == live[:10]
    everything = reader.recommend(history, 1000, exclude_seen=False, live_only=False)
    assert ids(everything) == ranked(user)


def test_recommend_within_a_category(reader: Reader) -> None:
    found = ids(reader.recommend(["i5"], 5, category="Room 1"))
    user = expected_user(["i5"])
    inside = [i for i in ranked(user) if BY_ID[i].is_live and "Room 1" in BY_ID[i].category]
    assert found == [i for i in inside if i != "i5"][:5]
    assert reader.recommend(["i5"], 5, category="no such room") == []
    assert reader.recommend(["i5"], 5, category="room 1") == []
    assert reader.recommend(["i5"], 5, category="") == []
    assert reader.recommend(["i5"], 0) == []
    popular = [i for i in ranked_by_count() if BY_ID[i].is_live and "Room 1" in BY_ID[i].category]
    assert ids(reader.recommend([], 5, category="Room 1")) == popular[:5]


def ranked_by_count() -> list[str]:
    return [item.item_id for item in sorted(ITEMS, key=lambda item: -item.count)]


@pytest.mark.parametrize(
    "text", ["' OR true --", 'Room 1" OR "1"="1', "@user", "\\", "\ud800", "\x00", "🧶" * 255]
)
def test_sql_in_a_value_is_a_value(reader: Reader, text: str) -> None:
    assert reader.recommend(["i5", text], 5, category=text) == []
    assert len(reader.recommend(["i5", text], 5)) == 5
    assert reader.get([text]) == {}
    assert reader.similar("i5", 3, category=text) == []
    with pytest.raises(UnknownItemError):
        reader.similar(text, 3)


def test_more_than_there_is_is_all_there_is(reader: Reader) -> None:
    live = [item.item_id for item in ITEMS if item.is_live]
    assert set(ids(reader.recommend(["i5"], 10_000))) == set(live) - {"i5"}
    assert ids(reader.recommend([], 10_000, live_only=False)) == ranked_by_count()
    everything = reader.similar("i5", 10_000, live_only=False)
    assert len(everything) == len(ITEMS) - 1
    assert len(reader.recommend([item.item_id for item in ITEMS], 5)) == 0


@pytest.mark.parametrize("k", [-1, 10_001, 2.0, True, "3"])
def test_a_k_that_does_not_fit_is_refused(reader: Reader, k: Any) -> None:
    for ask in (lambda: reader.recommend(["i1"], k), lambda: reader.similar("i1", k)):
        with pytest.raises(ExportError, match="must be a whole number from 0 to 10,000"):
            ask()


def test_what_is_no_list_of_ids_is_refused(reader: Reader) -> None:
    wrong: Any
    for wrong in ("23077", b"23077"):
        with pytest.raises(ExportError, match=r"one text, .*23077.*; give a list of item ids"):
            reader.recommend(wrong, 3)
        with pytest.raises(ExportError, match="give a list of item ids"):
            reader.get(wrong)
    for wrong in (5, None):
        with pytest.raises(ExportError, match="Item ids are text"):
            reader.recommend(["i1", wrong], 3)
        with pytest.raises(ExportError, match="Item ids are text"):
            reader.similar(wrong, 3)
    wrong = ["Room 1"]
    with pytest.raises(ExportError, match="give one name of a category path"):
        reader.recommend(["i1"], 3, category=wrong)
    with pytest.raises(ExportError, match="10,001 items and at most 10,000"):
        reader.recommend(["i1"] * 10_001, 3)


def test_a_setting_that_does_not_fit_is_refused(shop: Account) -> None:
    with pytest.raises(ExportError, match="cannot search in 'redis'; give cosmos or memory"):
        shop.reader(search="redis")
    with pytest.raises(ExportError, match="cannot refresh every 0 s"):
        shop.reader(search="memory", refresh_seconds=0)


@pytest.mark.parametrize("history", [[], ["nobody"]])
def test_a_user_without_known_items_gets_the_popular_ones(
    reader: Reader, history: list[str]
) -> None:
    assert reader.recommend(history, 5) == [
        Recommendation(f"i{n}", 60.0 - n, f"Item {n}") for n in (0, 1, 2, 3, 5)
    ]


def test_similar_by_distance_when_no_list_was_published(reader: Reader) -> None:
    own = BY_ID["i8"].vector.astype(float) * np.r_[-1.0, np.ones(4)]
    near = [i for i in ranked(own) if BY_ID[i].is_live and i != "i8"]
    assert ids(reader.similar("i8", 6)) == near[:6]
    with pytest.raises(UnknownItemError, match="'nobody' is not in the active version v1"):
        reader.similar("nobody", 3)
    with pytest.raises(KeyError):
        reader.similar("nobody", 3)


def test_similar_within_a_category_and_of_all_items(reader: Reader) -> None:
    own = BY_ID["i8"].vector.astype(float) * np.r_[-1.0, np.ones(4)]
    near = [i for i in ranked(own) if i != "i8"]
    assert ids(reader.similar("i8", 6, live_only=False)) == near[:6]
    inside = [i for i in near if BY_ID[i].is_live and "Room 2" in BY_ID[i].category]
    assert ids(reader.similar("i8", 6, category="Room 2")) == inside[:6]
    assert reader.similar("i8", 6, category="no such room") == []
    assert reader.similar("i8", 0) == []


def test_similar_from_the_published_list(account: Account, search: Search) -> None:
    near = (("i30", -1.25), ("i31", -1.5), ("i32", -2.0))
    listed = replace(ITEMS[0], similar=near)
    account.publish("v1", [listed, *ITEMS[1:]])
    with account.reader(search=search) as reader:
        assert reader.get(["i0", "i30"]) == {"i0": listed, "i30": BY_ID["i30"]}
        assert reader.similar("i0", 2) == [
            Recommendation("i30", -1.25, "Item 30"),
            Recommendation("i31", -1.5, "Item 31"),
        ]
        assert len(reader.similar("i0", 8)) == 8  # more than the list has
        assert ids(reader.similar("i0", 2, category="Room 1"))[0] not in ("i30", "i31")


def test_one_table_serves_both_sides(account: Account, search: Search) -> None:
    items = make_items(20, two_tables=False)
    account.publish("v1", items)
    with account.reader(search=search) as reader:
        point = items[3].vector.astype(float) * np.r_[-1.0, np.ones(4)]
        np.testing.assert_allclose(reader.user_point(["i3"]), point, rtol=1e-6)


def test_a_version_of_format_1_is_read(account: Account, search: Search) -> None:
    old = {"kind": "learned_lags", "lag_weights": [1.0, 0.5, 0.25]}
    account.publish("v1", ITEMS, model={"format": 1, "geometry": "hyperboloid", "aggregator": old})
    history = ["i3", "i5", "i9", "i7"]
    with account.reader(search=search) as reader:
        np.testing.assert_allclose(reader.user_point(history), expected_user(history), rtol=1e-5)


def test_a_uniform_model_looks_at_all_of_a_history(account: Account, search: Search) -> None:
    account.publish("v1", ITEMS, model=MODEL | {"aggregator": {"kind": "uniform"}})
    history = [f"i{n % 60}" for n in range(150)]
    contexts = np.stack([BY_ID[i].context for i in history]).astype(float)
    total = contexts.sum(0) * np.r_[-1.0, np.ones(4)]
    with account.reader(search=search) as reader:
        expected = total / np.sqrt(total[0] ** 2 - total[1:] @ total[1:])
        np.testing.assert_allclose(reader.user_point(history), expected, rtol=1e-5)
        assert len(reader.recommend([], 3)) == 3


def test_event_types_go_with_their_items(account: Account, search: Search) -> None:
    weights = {"purchase": 1.0, "view": 0.1}
    aggregator = {"kind": "window", "lag_weights": [1.0, 1.0, 1.0], "event_weights": weights}
    account.publish("v1", ITEMS, model=MODEL | {"aggregator": aggregator})
    history = ["i1", "i5", "nobody", "i9", "nobody", "i7"]
    events = ["purchase", "view", "purchase", "purchase", "purchase", "view"]
    total = sum(
        weight * BY_ID[i].context.astype(float) * np.r_[-1.0, np.ones(4)]
        for weight, i in ((0.1, "i5"), (1.0, "i9"), (0.1, "i7"))
    )
    expected = total / np.sqrt(total[0] ** 2 - total[1:] @ total[1:])
    with account.reader(search=search) as reader:
        np.testing.assert_allclose(reader.user_point(history, events=events), expected, rtol=1e-5)
        found = reader.recommend(history, 60, events=events, exclude_seen=False, live_only=False)
        assert ids(found) == ranked(expected)
        with pytest.raises(ExportError, match="6 items and 1 event types"):
            reader.recommend(history, 3, events=["view"])


def test_an_unknown_model_is_refused_by_name(account: Account, search: Search) -> None:
    account.publish("v1", ITEMS, model=MODEL | {"geometry": "spherical"})
    with account.reader(search=search) as reader:
        assert reader.get(["i1"])
        with pytest.raises(ExportError, match="'spherical'"):
            reader.recommend(["i1"], 3)
        with pytest.raises(ExportError, match="'spherical'"):
            reader.similar("i1", 3)


def test_a_symmetric_model_has_no_user_for_a_history(account: Account, search: Search) -> None:
    account.publish("v1", ITEMS, model=MODEL | {"users": "table", "aggregator": {"kind": "none"}})
    with account.reader(search=search) as reader:
        with pytest.raises(ExportError, match="roll back"):
            reader.recommend(["i1"], 3)
        assert len(reader.similar("i1", 3)) == 3


ANY_IDS = {
    "quotes": "a'b\"c",
    "forbidden": "a/b\\c?d#e",
    "escapes": "50% ~ off ~2f",
    "padded": " padded ",
    "dots": "..",
    "emoji": "🧶" * 255,
    "control": "\x01\t\n",
    "script": "日本語",
    "long": "x" * 255,
}


@pytest.mark.parametrize("item_id", ANY_IDS.values(), ids=ANY_IDS)
def test_any_id_is_stored_found_and_recommended(account: Account, item_id: str) -> None:
    items = [Item(item_id, ITEMS[0].vector, ITEMS[0].context, 1, (item_id,)), *ITEMS[1:3]]
    account.publish("v1", items)
    with account.reader() as stored, account.reader(search="memory") as loaded:
        for reader in (stored, loaded):
            assert reader.get([item_id, "i1"]) == {item_id: items[0], "i1": items[1]}
            assert item_id in ids(reader.recommend(["i1"], 3))
            assert len(reader.similar(item_id, 2)) == 2
            assert ids(reader.recommend(["i1"], 3, category=item_id)) == [item_id]
        assert stored.recommend([item_id], 3) == loaded.recommend([item_id], 3)
    assert account.publish("v1", items).already_active


def test_a_reader_that_polls_through_promotions_sees_whole_versions(account: Account) -> None:
    versions = {f"v{n}": make_items(40, seed=n) for n in range(6)}
    by_first_vector = {items[0].vector.tobytes(): items for items in versions.values()}
    account.publish("v0", versions["v0"])
    wanted = [f"i{n}" for n in range(40)]
    seen: list[bytes] = []
    problems: list[str] = []
    finished = threading.Event()

    def poll() -> None:
        with account.reader(refresh_seconds=0.0) as reader:
            while not finished.is_set() or not seen:
                found = reader.get(wanted)
                first = found["i0"].vector.tobytes()
                if list(found.values()) != by_first_vector[first]:
                    problems.append("mixed or incomplete")
                if len(reader.recommend(["i1"], 5)) != 5:
                    problems.append("too few recommendations")
                seen.append(first)

    poller = threading.Thread(target=poll)
    poller.start()
    try:
        for version, items in versions.items():
            account.publish(version, items)
    finally:
        finished.set()
        poller.join()
    assert not problems
    assert len(set(seen)) > 1


def test_a_reader_left_behind_by_two_promotions_moves_on(account: Account) -> None:
    account.publish("v1", ITEMS)
    with account.reader(refresh_seconds=3600.0) as reader:
        assert reader.get(["i1"]) == {"i1": BY_ID["i1"]}
        newest = make_items(60, seed=4)
        for version, items in (("v2", ITEMS), ("v3", ITEMS), ("v4", newest)):
            account.publish(version, items)  # v4 goes into the slot of v1
        assert reader.get(["i1"]) == {"i1": newest[1]}
        assert reader.active().version == "v4"


def test_a_reader_keeps_its_version_for_the_interval(account: Account) -> None:
    account.publish("v1", ITEMS)
    with account.reader(refresh_seconds=3600.0) as reader:
        assert reader.get(["i1"])
        account.publish("v2", make_items(60, seed=4))
        assert reader.get(["i1"]) == {"i1": BY_ID["i1"]}
