"""`hyperrec recommend` and `hyperrec similar`, searching in Cosmos DB and in memory."""

from __future__ import annotations

from pathlib import Path

from infra.local import services
from infra.local.published_keys import COSMOS_KEY
from serving_export.containers import DATABASE
from tests.serving_export.publishing_support import Account, make_items
from tests.support import Place, table_rows


def test_both_searches_print_the_same(place: Place, tmp_path: Path) -> None:
    items = make_items(30)
    with services.cosmos_server(tmp_path / "cosmos") as endpoint:
        account = Account(endpoint, COSMOS_KEY, DATABASE)
        account.create_containers()
        account.publish("one", items)
        at = place.with_settings(COSMOS_ENDPOINT=endpoint)
        home = {item.item_id for item in items}
        room = {item.item_id for item in items if "Room 1" in item.category}
        for expected, words in (
            (
                room,
                ["recommend", "--user-history", "i1", "--all", "--seen", "--category", "Room 1"],
            ),
            (home - {"i4"}, ["similar", "i4", "--k", "30", "--all", "--category", "Home"]),
        ):
            stored, loaded = (at.hyperrec(*words, *way).out for way in ([], ["--search", "memory"]))
            assert stored == loaded
            assert {row[1] for row in table_rows(stored)} == expected
