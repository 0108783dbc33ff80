"""The files of a source, and their rows in batches.

Parquet, CSV and JSON lines, the last two plain or gzip, below a folder of this machine or an
``az://`` address. CSV and JSON have no types worth trusting (a reader that guesses them from the
first rows turns the id 00123 into 123), so their values arrive as text and `convert` reads them.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import itertools
import json
import logging
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final, Literal, cast
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from pipelines.errors import UsageError
from pipelines.storage import open_storage

Kind = Literal["parquet", "csv", "json"]

KINDS: Final[dict[str, Kind]] = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".csv.gz": "csv",
    ".jsonl": "json",
    ".jsonl.gz": "json",
    ".ndjson": "json",
    ".ndjson.gz": "json",
    ".json": "json",
    ".json.gz": "json",
}

BATCH_ROWS: Final = 131_072
CSV_BLOCK_BYTES: Final = 16 << 20
# A JSON line names only the columns it has; these many lines stand for all when columns are listed.
JSON_HEAD_LINES: Final = 10_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SourceFile:
    """One readable file: its name below the source, the address a person knows, its kind."""

    name: str
    address: str
    kind: Kind
    zipped: bool
    _open: Callable[[], BinaryIO] = field(repr=False)

    @contextlib.contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The file's bytes, unzipped."""
        with self._open() as stream:
            if self.zipped:
                with gzip.GzipFile(fileobj=stream) as unzipped:
                    yield cast(BinaryIO, unzipped)
            else:
                yield stream


class Source:
    """A file or a folder that holds a retailer's rows."""

    def __init__(self, url: str) -> None:
        """List the files at `url`: a path, ``file://`` or ``az://``.

        Raises:
            UsageError: nothing is there, or the scheme is another one.
        """
        self.url = url
        self._files: dict[str, SourceFile]
        self._beside: Callable[[str], SourceFile | None]
        scheme = urlsplit(url).scheme
        if scheme == "az":
            self._list_blobs()
        elif scheme in {"", "file"}:
            parts = urlsplit(url)
            self._list_folder(Path(unquote(parts.netloc + parts.path) if scheme else url))
        else:
            raise UsageError(
                f"{url} has the scheme {scheme}://, which is not one of file:// and az://."
            )

    def _list_folder(self, path: Path) -> None:
        if not path.exists():
            raise UsageError(f"There is no file or folder {path}: check the path.")
        root = path if path.is_dir() else path.parent
        found = sorted(_visible(path)) if path.is_dir() else [path]
        self._files = _by_name(
            (file.relative_to(root).as_posix(), str(file), _opener(file)) for file in found
        )
        self._check(self.url, [file.name for file in found])

        def beside(name: str) -> SourceFile | None:
            file = root / name
            there = [(name, str(file), _opener(file))] if file.is_file() else []
            return _by_name(there).get(name)

        self._beside = beside

    def _list_blobs(self) -> None:
        storage = open_storage(self.url)
        names = [blob.name for blob in storage.list()]
        if not names:
            # Not a folder, so the address may be that of one blob.
            folder, _, name = self.url.rstrip("/").rpartition("/")
            if urlsplit(folder).netloc:
                storage = open_storage(folder)
                names = [blob.name for blob in storage.list(name) if blob.name == name]
        if not names:
            raise UsageError(f"There is no blob at or below {self.url}: check the address.")

        def known(name: str) -> tuple[str, str, Callable[[], BinaryIO]]:
            return name, f"{storage.url}/{name}", lambda: io.BytesIO(storage.read(name))

        self._files = _by_name(known(name) for name in names)
        self._check(self.url, names)

        def beside(name: str) -> SourceFile | None:
            there = [known(name) for blob in storage.list(name) if blob.name == name]
            return _by_name(there).get(name)

        self._beside = beside

    def _check(self, url: str, names: Sequence[str]) -> None:
        if not self._files:
            held = ", ".join(names[:5]) or "nothing"
            raise UsageError(
                f"{url} holds no file to import (found: {held}): the name must end with one of "
                f"{', '.join(KINDS)}."
            )

    def files(self, patterns: Sequence[str], without: str | None) -> list[SourceFile]:
        """The files to import, by name.

        Args:
            patterns: of file names; the first that any file matches counts, so that a folder with
                a whole file and an extract of it is not imported twice. A source that is one file
                is that file whatever its name.
            without: name of a file that holds something else, the catalogue.
        """
        found = [file for name, file in sorted(self._files.items()) if name != without]
        if len(self._files) == 1:
            return list(self._files.values())
        for pattern in patterns:
            matching = [f for f in found if fnmatch(PurePosixPath(f.name).name, pattern)]
            if matching:
                skipped = sorted({f.name for f in found} - {f.name for f in matching})
                if skipped:
                    _log.warning("not imported from %s: %s", self.url, ", ".join(skipped))
                return matching
        raise UsageError(
            f"No file of {self.url} is named like {' or '.join(patterns)}, as `files` of the "
            f"mapping demands: it holds {', '.join(f.name for f in found[:5])}."
        )

    def beside(self, name: str) -> SourceFile | None:
        """The file of that name in the source's folder, when it is there."""
        return self._beside(name)


def _visible(folder: Path) -> Iterator[Path]:
    """Files at any depth; names that start with . or _ are other programs' own, as in Spark."""
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name[0] not in "._"]
        yield from (Path(parent, name) for name in names if name[0] not in "._")


def _opener(path: Path) -> Callable[[], BinaryIO]:
    return lambda: path.open("rb")


def _by_name(files: Any) -> dict[str, SourceFile]:
    known = {}
    for name, address, opener in files:
        suffix = next((s for s in KINDS if name.lower().endswith(s)), None)
        if suffix:
            zipped = suffix.endswith(".gz")
            known[name] = SourceFile(name, address, KINDS[suffix], zipped, opener)
        else:
            _log.warning("not imported, as its name ends with no known suffix: %s", address)
    return known


def column_names(file: SourceFile) -> list[str]:
    """The columns of a file, in its order.

    Raises:
        UsageError: the file cannot be read.
    """
    with _readable(file), file.open() as stream:
        if file.kind == "parquet":
            return list(pq.ParquetFile(stream).schema_arrow.names)
        if file.kind == "csv":
            return _header(stream)[0]
        head = itertools.islice(_json_rows(stream), JSON_HEAD_LINES)
        return list(dict.fromkeys(name for row in head for name in row))


def batches(file: SourceFile, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The rows of a file, in its order, a bounded number at a time.

    Args:
        file: what to read.
        columns: the columns wanted. Parquet keeps its types, CSV gives strings, JSON strings or
            lists of strings.

    Raises:
        UsageError: the file cannot be read to its end.
    """
    wanted = list(dict.fromkeys(columns))
    with _readable(file), file.open() as stream:
        if file.kind == "parquet":
            parquet = pq.ParquetFile(stream)
            yield from parquet.iter_batches(batch_size=BATCH_ROWS, columns=wanted)
        elif file.kind == "csv":
            yield from _csv_batches(file, wanted, stream)
        else:
            rows = _json_rows(stream)
            while some := list(itertools.islice(rows, BATCH_ROWS)):
                arrays = [_json_column([row.get(name) for row in some]) for name in wanted]
                yield pa.RecordBatch.from_arrays(arrays, names=wanted)


def _header(stream: BinaryIO) -> tuple[list[str], str]:
    """The names in the first line of a CSV file, and the delimiter that splits it most."""
    line = stream.readline().decode("utf-8-sig")
    if not line.strip():
        raise ValueError("its first line, which should name the columns, is empty")
    delimiter = max(",;\t|", key=line.count)
    return next(csv.reader([line], delimiter=delimiter)), delimiter


def _csv_batches(file: SourceFile, wanted: list[str], stream: BinaryIO) -> Iterator[pa.RecordBatch]:
    with file.open() as first:
        names, delimiter = _header(first)
    with pacsv.open_csv(
        stream,
        pacsv.ReadOptions(block_size=CSV_BLOCK_BYTES),
        pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        pacsv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=wanted,
            strings_can_be_null=False,
        ),
    ) as reader:
        yield from reader


def _json_rows(stream: BinaryIO) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(stream, start=1):
        if line.isspace():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {number} is not JSON ({error})") from error
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is not an object; one object a line is expected")
        yield row


def _json_column(values: list[Any]) -> pa.Array:
    if any(isinstance(value, list) for value in values):
        lists = [value if isinstance(value, list) or value is None else [value] for value in values]
        texts = [None if value is None else [_json_text(v) for v in value] for value in lists]
        return pa.array(texts, pa.list_(pa.string()))
    return pa.array([_json_text(value) for value in values], pa.string())


def _json_text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        # JSON can spell half a surrogate pair, which no UTF-8 text can hold.
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return str(int(value))
    return json.dumps(value)


@contextlib.contextmanager
def _readable(file: SourceFile) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise UsageError(
            f"Cannot read {file.address}: it is not UTF-8 text; convert it (for example with "
            "iconv -f WINDOWS-1252 -t UTF-8) and import it again."
        ) from error
    except (OSError, EOFError, zlib.error, csv.Error, pa.ArrowException, ValueError) as error:
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or [repr(error)])[0]
        hint = "whole" if file.kind != "json" else "whole, one JSON object a line"
        raise UsageError(
            f"Cannot read {file.address} as {file.kind}: {reason.rstrip('.')}; check that the "
            f"file is {hint} and that you may read it."
        ) from error
