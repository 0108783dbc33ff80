"""A file given again, corrected, grown, or from another folder: which rows stay, and which go."""

import hashlib

import pytest

from pipelines.errors import UsageError
from pipelines.importing import import_source, load_mapping
from tests.pipelines.importing.test_import_job import LINES, MORNING, parquet, read, table


def test_importing_again_touches_nothing(tmp_path, target):
    source = parquet(tmp_path / "retail.parquet", table())
    mapping = load_mapping("online-retail")
    first = import_source(source, mapping, target)
    before = list(target.list())
    second = import_source(source, mapping, target)
    assert list(target.list()) == before
    assert (first.files_written, first.files_unchanged) == (5, 0)
    assert (second.files_written, second.files_unchanged) == (0, 5)


def test_files_of_one_name_in_other_folders_add_up(tmp_path, target):
    mapping = load_mapping("online-retail")
    for night, lines in (("n1", LINES[:4]), ("n2", LINES[1:6])):
        (tmp_path / night).mkdir()
        import_source(parquet(tmp_path / night / "orders.parquet", table(lines)), mapping, target)
    assert len(read(target)) == 4 + 5

    # The same place, however it is spelt.
    before = list(target.list())
    (tmp_path / "latest").symlink_to(tmp_path / "n2")
    for again in (f"{tmp_path}/n1/../n2/orders.parquet", str(tmp_path / "latest")):
        assert import_source(again, mapping, target).files_written == 0
    assert list(target.list()) == before


def test_a_corrected_file_replaces_its_days_and_leaves_others(tmp_path, target):
    mapping = load_mapping("online-retail")
    for name in ("a", "b"):
        import_source(parquet(tmp_path / f"{name}.parquet", table()), mapping, target)
    before = {blob.name: blob.etag for blob in target.list("interactions/")}
    source = parquet(tmp_path / "a.parquet", table(LINES[1:2]))
    report = import_source(source, mapping, target, replace=True)
    after = {blob.name: blob.etag for blob in target.list("interactions/")}
    assert {name.split("/")[1] for name in before.keys() - after.keys()} == {
        "dt=2010-12-01", "dt=unknown",
    }  # fmt: skip
    assert {name.split("/")[1] for name in after.keys() - before.keys()} == {"dt=2010-12-01"}
    assert all(before[name] == after[name] for name in before.keys() & after.keys())
    assert len(read(target)) == 8 + 8 - 2 - 1
    assert (report.rows_replaced, report.files_written) == (3, 1)


def test_rows_that_a_file_no_longer_holds_go_only_when_told(tmp_path, target):
    mapping = load_mapping("online-retail")
    import_source(parquet(tmp_path / "orders.parquet", table()), mapping, target)
    before = list(target.list())

    # The next night's file under the same name, with one late row of the day before.
    late = ("536372", "22139", "TEA SET", 1, MORNING + 60, 4.25, 17850.0, "France")
    night = [late, late, *LINES[7:]]
    source = parquet(tmp_path / "orders.parquet", table(night))
    with pytest.raises(
        UsageError,
        match=r"orders.parquet was imported before, and now lacks 3 of the rows that it held then "
        r"\(2010-12-01: 3\): give --replace if it corrects them; if it is another delivery, import "
        r"it from a folder of its own\.$",
    ):
        import_source(source, mapping, target)
    assert list(target.list()) == before

    # One that has only grown is no correction.
    source = parquet(tmp_path / "orders.parquet", table([*night, *LINES]))
    assert import_source(source, mapping, target).rows_replaced == 0
    assert len(read(target)) == 8 + 3
    # Of equal rows every one counts.
    source = parquet(tmp_path / "orders.parquet", table([*night[1:], *LINES]))
    with pytest.raises(UsageError, match=r"and now lacks 1 of the rows .*\(2010-12-01: 1\)"):
        import_source(source, mapping, target)


def test_parts_named_by_their_file_s_name_alone(tmp_path, target, caplog):
    """As imports named them before, in two folders' case one over the other."""
    mapping = load_mapping("online-retail")
    source = parquet(tmp_path / "orders.parquet", table())
    import_source(source, mapping, target)
    for blob in list(target.list("interactions/")):
        folder, _, _ = blob.name.rpartition("/")
        by_name = hashlib.sha256(b"orders.parquet").hexdigest()[:8]
        target.write(f"{folder}/part-{by_name}-0.parquet", target.read(blob.name))
        target.delete(blob.name)

    (tmp_path / "n2").mkdir()
    other = parquet(tmp_path / "n2" / "orders.parquet", table(LINES[1:2]))
    import_source(other, mapping, target)
    assert len(read(target)) == 8 + 1
    assert "does not hold 2 of their rows" in caplog.text

    import_source(source, mapping, target)
    assert len(read(target)) == 8 + 1
    assert {blob.name.count("-") for blob in target.list("interactions/dt=2010")} == {5}
