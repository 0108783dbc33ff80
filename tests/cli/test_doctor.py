"""`hyperrec doctor`: what this machine lacks."""

from __future__ import annotations

import re
from pathlib import Path

from infra.local.process import free_port
from tests.support import Place, table_rows


def findings(out: str) -> dict[str, tuple[str, str, str]]:
    """By thing: the mark, what was found and what to do, folded cells put together again."""
    whole: list[list[str]] = []
    for row in table_rows(out):
        if row[0] and row[1]:
            whole.append(row)
        else:
            whole[-1] = [f"{a} {b}".strip() for a, b in zip(whole[-1], row, strict=True)]
    return {thing: (mark, found, advice) for mark, thing, found, advice in whole}


def test_a_machine_that_has_what_is_needed(place: Place, cosmos: str) -> None:
    done = place.with_settings(COSMOS_ENDPOINT=cosmos).hyperrec("doctor")
    found = findings(done.out)
    assert done.err == ""
    assert found["Python"][0] == "ok"
    assert found["Java"][0] == "ok"
    assert re.search(r'version "\d\d', found["Java"][1])
    assert found["Cosmos DB"] == (
        "note", "answers, containers not made yet", "the first export makes them",
    )  # fmt: skip
    mark, _, advice = found["Local services"]
    assert (mark, advice) == ("note", "give `hyperrec up` to start them")
    assert found["Blob storage"][0] == "note"


def test_a_machine_without_java_and_node_and_with_stores_away(place: Place, tmp_path: Path) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    bare = place.with_settings(
        PATH=str(tmp_path),
        JAVA_HOME="",
        COSMOS_ENDPOINT=away,
        AZURE_STORAGE_ACCOUNT_URL=f"{away}/devstoreaccount1",
    )
    done = bare.hyperrec("doctor", code=1)
    found = findings(done.out)
    mark, _, advice = found["Java"]
    assert mark == "MISSING"
    assert "none is on the PATH: install Java 17 or newer (Debian: apt install" in advice
    assert found["Node"][0] == "note"
    assert "file://" in found["Node"][2]
    assert found["Cosmos DB"][:2] == ("MISSING", "not usable")
    assert f"Cosmos DB at {away} was not available" in found["Cosmos DB"][2]
    assert found["Blob storage"][:2] == ("MISSING", "not usable")
    assert "Traceback" not in done.err
