"""Which of a file's columns a mapping means; a name that is not there is the user's to mend."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.errors import UsageError
from pipelines.importing.formats import column_names
from pipelines.importing.mapping import Mapping
from pipelines.importing.sources import SourceFile


@dataclass(frozen=True)
class Binding:
    """The columns of one file by what they mean; what the file lacks is absent.

    Attributes:
        columns: our name (user_id, order, title, ...) to the file's name.
        rules: the file's names for the rules of the event type, in the mapping's order.
        category: the file's names for the levels of an item's category.
    """

    columns: dict[str, str]
    rules: tuple[str, ...] = ()
    category: tuple[str, ...] = ()

    @property
    def needed(self) -> list[str]:
        """The file's columns to read."""
        return [*self.columns.values(), *self.rules, *self.category]


def bind_rows(mapping: Mapping, file: SourceFile, *, with_catalogue: bool) -> Binding:
    """Find the mapping's columns in a file of interactions.

    Args:
        mapping: names to look for.
        file: where.
        with_catalogue: whether its rows also describe the items.

    Raises:
        UsageError: a column is not there, or the file cannot be read.
    """
    search = _Search(mapping, file)
    for role, alternatives in mapping.columns:
        if alternatives is not None:
            search.column(role, alternatives, f"[columns] {role}")
    rules = tuple(
        search.find(rule.column, "[[event_type.when]] column") for rule in mapping.event_type.when
    )
    category = search.description() if with_catalogue else ()
    return Binding(search.columns, rules, category)


def bind_catalogue(mapping: Mapping, file: SourceFile) -> Binding:
    """Find the mapping's columns in a file that describes items; raises as `bind_rows`."""
    search = _Search(mapping, file)
    search.column("item_id", mapping.columns.item_id, "[columns] item_id")
    return Binding(search.columns, category=search.description())


class _Search:
    def __init__(self, mapping: Mapping, file: SourceFile) -> None:
        self._mapping = mapping
        self._file = file
        self._names = column_names(file)
        self.columns: dict[str, str] = {}

    def column(self, role: str, alternatives: Sequence[str], place: str) -> None:
        if role in self._mapping.optional and not set(alternatives) & set(self._names):
            return
        self.columns[role] = self.find(alternatives, place)

    def find(self, alternatives: Sequence[str], place: str) -> str:
        for name in alternatives:
            if name in self._names:
                return name
        wanted = " or ".join(alternatives)
        likely = _likely(alternatives, self._names)
        meant = f"; did you mean {likely}?" if likely else "."
        raise UsageError(
            f"{self._file.address} has no column {wanted}, which the mapping names under {place}: "
            f"its columns are {', '.join(self._names)}{meant}"
        )

    def description(self) -> tuple[str, ...]:
        """The columns that describe an item; returns those of its category."""
        catalogue = self._mapping.catalogue
        for role, alternatives in (("title", catalogue.title), ("is_live", catalogue.is_live)):
            if alternatives is not None:
                self.column(role, alternatives, f"[catalogue] {role}")
        path = catalogue.category or ()
        if "category" in self._mapping.optional and not set(path) <= set(self._names):
            return ()
        return tuple(self.find((level,), "[catalogue] category") for level in path)


def _likely(wanted: Sequence[str], names: Sequence[str]) -> str | None:
    """The name that differs from a wanted one by case, signs or a slip of the pen."""
    by_letters = {re.sub(r"\W|_", "", name).casefold(): name for name in names}
    for name in wanted:
        letters = re.sub(r"\W|_", "", name).casefold()
        close = difflib.get_close_matches(letters, by_letters, n=1, cutoff=0.7)
        if close:
            return by_letters[close[0]]
    return None
