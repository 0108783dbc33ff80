"""What a reproduction hands back, and how its numbers are written down: Markdown and CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

Cell = str | int | float | None


@dataclass(frozen=True)
class Report:
    """The numbers of one figure or table of the paper.

    Attributes:
        title: what the numbers are, in a sentence without a full stop.
        columns: heading of each column.
        rows: a value a column; None where there is none to give.
        notes: what a reader must know to judge the numbers, one sentence or more each.
        files: what was written, pictures first.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str]
    files: Sequence[Path]


def save(
    stem: Path,
    *,
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    notes: Sequence[str] = (),
    pictures: Sequence[Path] = (),
) -> Report:
    """Write the rows as `<stem>.csv`, in full precision, and as `<stem>.md`, rounded to be read.

    Args:
        stem: path without an ending; its folder is made when it lacks.
        title: heading of the Markdown file.
        columns: heading of each column.
        rows: a value a column; None is an empty cell.
        notes: paragraphs under the table.
        pictures: what was drawn of these numbers, named in the Markdown file.

    Returns:
        The report of what was written.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    numbers, document = stem.with_suffix(".csv"), stem.with_suffix(".md")
    write_csv(numbers, columns, rows)
    lines = [f"# {title}", ""]
    lines += [line for picture in pictures for line in (f"![{title}]({picture.name})", "")]
    lines += [_line(columns), _line(["---"] * len(columns))]
    lines += [_line([shown(cell) for cell in row]) for row in rows]
    lines += [part for note in notes for part in ("", note)]
    document.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Report(title, columns, rows, notes, (*pictures, document, numbers))


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Write a heading and rows; None is an empty field."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def write_between(path: Path, mark: str, text: str) -> None:
    """Replace what a document holds between two lines that a reader does not see.

    Args:
        path: of the document.
        mark: the lines are `<!-- MARK: begin -->` and `<!-- MARK: end -->`.
        text: whole lines.

    Raises:
        ValueError: the document lacks them.
    """
    before, begin, rest = path.read_text("utf-8").partition(f"<!-- {mark}: begin -->\n")
    _, end, after = rest.partition(f"<!-- {mark}: end -->")
    if not begin or not end:
        raise ValueError(
            f"{path} lacks the lines <!-- {mark}: begin --> and <!-- {mark}: end -->: put them "
            "back."
        )
    path.write_text(f"{before}{begin}{text}{end}{after}", "utf-8")


def shown(cell: Cell) -> str:
    """A value as a person reads it: integers with separators, floats with four digits."""
    if cell is None:
        return ""
    if isinstance(cell, int):
        return f"{cell:,}"
    return cell if isinstance(cell, str) else f"{cell:.4g}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
