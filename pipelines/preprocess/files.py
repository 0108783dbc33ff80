"""What every raw file must have, and the error that says why one cannot be used."""

from __future__ import annotations

import codecs

from pipelines.preprocess.tables import RawTable

# Large enough that Spark's cost per batch does not show (256 k rows: 3.6 s, 10 k: 9.5 s for 5 M).
BATCH_ROWS = 262_144

# An unreadable line is shown in quarantine up to this many characters.
SHOWN_CHARACTERS = 500


class UnreadableFileError(ValueError):
    """A raw file cannot be used; the message is the detail given in its quarantine.

    Attributes:
        rule: the one of `rules.FILE_RULES` that it breaks.
    """

    def __init__(self, detail: str, rule: str = "file_unreadable") -> None:
        super().__init__(detail)
        self.rule = rule


def wanted_columns(found: list[str], table: RawTable) -> list[str]:
    """The columns of a file that its table wants, in the table's order.

    Args:
        found: the file's columns.
        table: which columns there may be and which there must be.

    Raises:
        UnreadableFileError: one that must be there is not, or a wanted one is there twice.
    """
    missing = [name for name in table.required if name not in found]
    if missing:
        raise UnreadableFileError(
            f"it has no column {', '.join(missing)}; its columns are {', '.join(found)}"[
                :SHOWN_CHARACTERS
            ],
            "file_without_column",
        )
    twice = [name for name in table.columns if found.count(name) > 1]
    if twice:
        raise UnreadableFileError(f"it has more than one column {', '.join(twice)}")
    return [name for name in table.columns if name in found]


def not_utf8(data: bytes) -> str | None:
    """What keeps bytes from being UTF-8 text, for a person to act on; None when they are."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return (
            f"it is not UTF-8 text (byte 0x{data[error.start]:02X} in line {line}): convert it, "
            f"for example with iconv -f {'UTF-16' if is_utf16 else 'WINDOWS-1252'} -t UTF-8"
        )
    return None
