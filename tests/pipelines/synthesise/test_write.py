"""A shop in the raw layout: the same bytes however it is made, made once, never mixed."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.local import services
from infra.local.published_keys import AZURITE_KEY
from pipelines.errors import PipelineError, UsageError
from pipelines.settings import BlobAccount
from pipelines.storage import Folder, Storage, open_storage
from pipelines.synthesise import CatalogueConfig, interactions, items_table, write
from pipelines.synthesise.dirt.kinds import parse_shares
from pipelines.synthesise.latent import block_count
from pipelines.synthesise.record import RECORD
from pipelines.synthesise.spool import Spool
from pipelines.synthesise.workers import in_order, workers
from pipelines.synthesise.write import write_catalogue

SMALL = CatalogueConfig(
    users=200, items=100, interactions=3000, days=30, last_day=date(2024, 6, 30), seed=3
)
DIRT = {"bot": 0.1, "as_csv": 0.1, "user_id_null": 0.01}


def sized(config: CatalogueConfig = SMALL, **changes: int) -> CatalogueConfig:
    return CatalogueConfig(**{**vars(config), **changes})


def digests(storage: Storage) -> dict[str, str]:
    return {
        blob.name: hashlib.sha256(storage.read(blob.name)).hexdigest() for blob in storage.list()
    }


def test_the_bytes_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    shop = sized(users=3000, interactions=530_000, days=20)
    assert block_count(shop) == 2
    shares = parse_shares(["0.0001"])
    found = []
    for processes in (1, 2):
        folder = Folder(tmp_path / str(processes))
        steps: list[tuple[int, int]] = []
        write_catalogue(
            shop,
            folder,
            dirt=shares,
            processes=processes,
            progress=lambda done, total, steps=steps: steps.append((done, total)),
        )
        assert [done for done, _ in steps] == list(range(1, len(steps) + 1))
        assert steps[-1][1] >= len(steps) > 20
        found.append(digests(folder))
    assert found[0] == found[1]

    # Both blocks' rows of a day are in its one file, by time.
    rows = pq.read_table(tmp_path / "1/interactions" / f"dt={shop.last_day}" / "part-00000.parquet")
    users = {int(user[1:]) // (shop.users // 2) for user in rows["user_id"].to_pylist()}
    assert users == {0, 1}
    times = rows["event_time"].to_numpy()
    assert (np.diff(times) >= np.timedelta64(0)).all()


def test_the_files_hold_the_rows_of_the_generator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "_PART_ROWS", 50)
    written = write_catalogue(SMALL, Folder(tmp_path))
    assert (written.read, written.kept) == (SMALL.interactions, SMALL.interactions)
    for day, table in interactions(SMALL):
        folder = tmp_path / "interactions" / f"dt={day}"
        parts = [pq.read_table(part) for part in sorted(folder.iterdir())]
        assert pa.concat_tables(parts).equals(table)
        assert max(part.num_rows for part in parts) <= 50
    assert pq.read_table(tmp_path / "items/part-00000.parquet").equals(items_table(SMALL))


def test_a_shop_that_is_there_is_left_alone(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    first = write_catalogue(SMALL, folder, dirt=DIRT)
    before = list(folder.list())
    again = write_catalogue(SMALL, folder, dirt=DIRT)
    assert again.was_there
    assert not first.was_there
    assert (again.files, again.read, again.kept) == (first.files, first.read, first.kept)
    assert list(folder.list()) == before  # tags and all


def test_a_shop_that_lost_a_file_gets_it_back_and_the_rest_is_left_alone(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    write_catalogue(SMALL, folder, dirt=DIRT)
    before, bytes_before = {blob.name: blob for blob in folder.list()}, digests(folder)
    lost = f"interactions/dt={SMALL.last_day}/part-00000.parquet"
    folder.delete(lost)
    assert not write_catalogue(SMALL, folder, dirt=DIRT).was_there
    assert digests(folder) == bytes_before
    changed = {blob.name for blob in folder.list() if blob != before[blob.name]}
    assert changed == {lost, RECORD}


def test_a_shop_that_was_begun_is_finished(tmp_path: Path) -> None:
    whole, folder = Folder(tmp_path / "whole"), Folder(tmp_path / "begun")
    write_catalogue(SMALL, whole)
    record = json.loads(whole.read(RECORD))
    folder.write(RECORD, json.dumps(record | {"files": None, "totals": None}).encode())
    folder.write("items/part-00000.parquet", whole.read("items/part-00000.parquet"))
    assert not write_catalogue(SMALL, folder).was_there
    assert digests(folder) == digests(whole)
    assert write_catalogue(SMALL, folder).was_there


def refused(folder: Folder, config: CatalogueConfig = SMALL, **dirt: float) -> str:
    before = list(folder.list())
    with pytest.raises(UsageError) as refusal:
        write_catalogue(config, folder, dirt=dirt)
    assert list(folder.list()) == before
    return str(refusal.value)


def test_another_shop_is_neither_mixed_in_nor_overwritten(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    write_catalogue(SMALL, folder)
    assert refused(folder, sized(users=201, seed=4)) == (
        f"{folder.url} holds a synthetic shop with users 200 and not 201, seed 3 and not 4: give "
        "--to another address, or delete what is there."
    )
    assert "other shares of dirt" in refused(folder, bot=0.1)
    folder.write("interactions/dt=2024-06-30/mine.parquet", b"mine")
    assert refused(folder) == (
        f"{folder.url} holds interactions/dt=2024-06-30/mine.parquet, which this command did not "
        "write: give --to another address, or delete that."
    )


def test_somebody_elses_rows_are_left_alone(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("interactions/dt=2024-06-30/part-00000.parquet", b"theirs")
    assert "which this command did not write" in refused(folder)
    folder.delete("interactions/dt=2024-06-30/part-00000.parquet")
    folder.write(RECORD, b"{")
    assert "is not what this command wrote" in refused(folder)


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BlobAccount]:
    if not services.azurite_installed():
        pytest.skip("Node or infra/local/node_modules is missing")
    with services.azurite_server(tmp_path_factory.mktemp("azurite")) as endpoint:
        yield BlobAccount(endpoint, AZURITE_KEY)


def test_a_container_gets_the_same_bytes_as_a_folder(azurite: BlobAccount, tmp_path: Path) -> None:
    folder, container = Folder(tmp_path), open_storage("az://raw/shop", account=azurite)
    for target in (folder, container):
        write_catalogue(SMALL, target, dirt=DIRT)
    assert digests(container) == digests(folder)
    assert write_catalogue(SMALL, container, dirt=DIRT).was_there


def test_a_killed_process_ends_the_work_with_a_sentence() -> None:
    with (
        pytest.raises(
            PipelineError, match=r"^One of 2 drawing processes was killed, .*--processes"
        ),
        workers(2) as pool,
    ):
        list(in_order(pool, os._exit, [(9,)] * 3, ahead=1))


def test_a_full_disk_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    full = open("/dev/full", "r+b")  # noqa: PTH123, SIM115  the spool closes it
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: full)
    with (
        pytest.raises(PipelineError, match="No space left on device; set TMPDIR to a folder with"),
        Spool(1, 4) as spool,
    ):
        spool.add(b"rows", np.array([1]))


def test_a_spool_gives_days_back_in_the_order_of_the_blocks() -> None:
    with Spool(3, 2) as spool:
        spool.add(b"aabbcc", np.array([1, 0, 2]))
        spool.add(b"", np.zeros(3, np.int64))
        spool.add(b"ddeeff", np.array([1, 2, 0]))
        assert spool.rows.tolist() == [2, 2, 2]
        assert [spool.day(number) for number in range(3)] == [b"aadd", b"eeff", b"bbcc"]
