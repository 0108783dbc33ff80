"""The syntax tree of a query. Every expression keeps its place in the text (its span)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Span:
    """Where an expression stands in the query text."""

    start: int
    end: int


@dataclass(frozen=True)
class Literal:
    """A constant, or the value of a parameter."""

    value: Any
    span: Span


@dataclass(frozen=True)
class Undefined:
    """The keyword `undefined`."""

    span: Span


@dataclass(frozen=True)
class Path:
    """A property of the item; no keys mean the item itself."""

    keys: tuple[str | int, ...]
    span: Span


@dataclass(frozen=True)
class Compound:
    """An operator, function, array or object with its operands.

    `name` is `AND`, `OR`, `NOT`, `IN`, a comparison sign, `[]`, `{}` or an upper-case function
    name; `fields` are the property names of `{}`.
    """

    name: str
    operands: tuple[Expression, ...]
    span: Span
    fields: tuple[str, ...] = ()


Expression = Literal | Undefined | Path | Compound


@dataclass(frozen=True)
class Query:
    """A parsed query. `projection` is None for `*`; with `value` it has one unnamed entry."""

    text: str
    projection: tuple[tuple[str, Expression], ...] | None
    value: bool
    distinct: bool
    top: int | None
    where: Expression | None
    order: tuple[tuple[Expression, bool], ...]
    offset: int | None
    limit: int | None
    root: str
    where_end: int

    def source(self, expression: Expression) -> str:
        """The text of an expression."""
        return self.text[expression.span.start : expression.span.end]
