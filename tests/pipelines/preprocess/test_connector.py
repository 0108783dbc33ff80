"""Files that Spark's own file systems read, here a mount that answers to an abfss address."""

from __future__ import annotations

import uuid

import pytest

from pipelines.errors import PipelineError, UsageError
from pipelines.preprocess.session import spark_failures
from pipelines.preprocess.source import read_raw
from pipelines.preprocess.tables import INTERACTIONS, ITEMS
from pipelines.storage import Folder
from tests.pipelines.preprocess.support import at, event, parquet

ODD_NAMES = (
    "dt=2024-03-01/part-0.parquet",
    "dt=2024-03-02/two words, 50% off.parquet",
    "dt=2024-03-03/[ab] {c} *? %41.parquet",
    "dt=2024-03-04/Größe 日本 🛒.parquet",
    "dt=unknown/a+b&c=d;#e.parquet",
)


@pytest.fixture
def mounted(spark, tmp_path):
    """A folder, and the address under which Spark reads it as a connector would."""
    authority = f"raw@a{uuid.uuid4().hex}.dfs.core.windows.net"
    hadoop = spark.sparkContext._jsc.hadoopConfiguration()
    mount = "org.apache.hadoop.fs.viewfs.ViewFileSystemOverloadScheme"
    local = "org.apache.hadoop.fs.RawLocalFileSystem"
    hadoop.set("fs.abfss.impl", mount)
    hadoop.set("fs.viewfs.overload.scheme.target.file.impl", local)
    hadoop.set(f"fs.viewfs.mounttable.{authority}.link./shop", tmp_path.as_uri())
    yield Folder(tmp_path), f"abfss://{authority}/shop"
    hadoop.unset("fs.abfss.impl")


def users(frame):
    return sorted((row.source_file, row.user_id, row.file_rule) for row in frame.collect())


def test_files_of_any_name_are_read_and_a_bad_one_has_its_reason(spark, mounted):
    folder, url = mounted
    names = [f"interactions/{name}" for name in ODD_NAMES]
    for number, name in enumerate(names):
        folder.write(name, parquet([event(f"u{number}", "i", at())]))
    # Of a name that a pattern would find, and listed by nobody.
    folder.write("interactions/dt=2024-03-03/a c xy %41.parquet", parquet([event("x", "i", at())]))
    folder.write("interactions/dt=2024-03-05/empty.csv", b"")
    folder.write("interactions/dt=2024-03-05/torn.csv.gz", b"\x1f\x8b")
    folder.write("items/items.csv", b"item_id\ni\n")
    listing = [blob for blob in folder.list() if "/a c xy" not in blob.name]
    assert users(read_raw(spark, url, listing, INTERACTIONS)) == sorted(
        [
            *((name, f"u{number}", None) for number, name in enumerate(names)),
            ("interactions/dt=2024-03-05/empty.csv", None, "file_empty"),
            ("interactions/dt=2024-03-05/torn.csv.gz", None, "file_unreadable"),
        ]
    )
    assert [row.item_id for row in read_raw(spark, url, listing, ITEMS).collect()] == ["i"]
    assert read_raw(spark, url, [], ITEMS).count() == 0


def test_the_rows_are_those_that_our_own_workers_read(spark, mounted):
    folder, url = mounted
    for day in (1, 2, 3):
        rows = [event(f"u{n}", f"i{n}", at(n, day=day), quantity=1.0) for n in range(50)]
        folder.write(f"interactions/dt=2024-03-0{day}/part-0.parquet", parquet(rows))
    listing = list(folder.list())
    frames = [read_raw(spark, address, listing, INTERACTIONS) for address in (url, folder.url)]
    assert frames[0].schema == frames[1].schema
    here, there = (sorted(map(tuple, frame.drop("rating").collect())) for frame in frames)
    assert len(here) == 150
    assert [tuple(map(str, row)) for row in here] == [tuple(map(str, row)) for row in there]


def test_a_file_that_changes_or_goes_is_told(spark, mounted):
    folder, url = mounted
    folder.write("interactions/dt=2024-03-01/a.csv", b"user_id,item_id,event_time\n")
    listing = list(folder.list())
    folder.write("interactions/dt=2024-03-01/a.csv", b"user_id,item_id,event_time,more\n")
    changed = r"^interactions/dt=2024-03-01/a.csv in abfss://.* changed while it was read"
    with pytest.raises(PipelineError, match=changed), spark_failures():
        read_raw(spark, url, listing, INTERACTIONS).collect()
    folder.delete("interactions/dt=2024-03-01/a.csv")
    with pytest.raises(PipelineError, match=r"a\.csv.*changed while it was read"):
        read_raw(spark, url, listing, INTERACTIONS)


def test_a_spark_without_the_connector_is_told(spark, tmp_path):
    folder = Folder(tmp_path)
    folder.write("interactions/dt=2024-03-01/a.csv", b"user_id,item_id,event_time\n")
    with pytest.raises(UsageError, match=r"no connector for it is installed: .* az://CONTAINER"):
        read_raw(spark, "abfss://raw@acc.dfs.core.windows.net", list(folder.list()), INTERACTIONS)
