"""`hyperrec history`, `rollback --why` and `clean` as an operator sees them."""

from __future__ import annotations

from pathlib import Path

from infra.local.published_keys import COSMOS_KEY
from infra.local.services import cosmos_server
from serving_export.containers import DATABASE
from tests.cli.conftest import Fails
from tests.serving_export.publishing_support import Account, make_items
from tests.support import Place, table_rows


def test_who_made_what_live_and_why(place: Place, fails: Fails, tmp_path: Path) -> None:
    with cosmos_server(tmp_path / "cosmos") as endpoint:
        here = place.with_settings(COSMOS_ENDPOINT=endpoint)
        assert here.hyperrec("history").out.startswith("Nothing has ever been published")
        account = Account(endpoint, COSMOS_KEY, DATABASE)
        account.create_containers()
        assert here.hyperrec("history").out.startswith("Nothing has been promoted")

        account.publish("v1", make_items(4), gates=["HR@10 0.7", "warn: fewer items"])
        assert "no previous version" in fails("rollback", "--why", "a try", code=1, at=here)
        account.publish("v2", make_items(4, seed=2))
        account.publish("v3", make_items(4, seed=3))
        here.hyperrec("rollback", "--why", "[bold]v3[/bold] has no umbrellas")

        rows = table_rows(here.hyperrec("history").out)
        assert [row[0] for row in rows] == ["4", "3", "2", "1"]
        assert rows[0][2:5] == ["rollback", "v2", "v3"]
        assert rows[0][6] == "[bold]v3[/bold] has no umbrellas"
        assert rows[3][2:5] == ["promotion", "v1", "-"]
        assert rows[3][6] == "warn: fewer items; 1 of 2 gates passed"
        assert len(table_rows(here.hyperrec("history", "--limit", "2").out)) == 2

        assert "Deleted 4 documents from slot a" in here.hyperrec("clean").out
        assert "Deleted 0 documents from slot a" in here.hyperrec("clean").out
        assert account.status().active.version == "v2"
        assert len(account.documents("b")) == len(account.documents("c")) == 4
