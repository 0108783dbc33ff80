"""The Cosmos SQL subset: text to a syntax tree, 400 for every construct outside the subset.

    SELECT [DISTINCT] [TOP n] * | VALUE e | e [AS name], …  FROM c
    [WHERE e] [ORDER BY e [ASC|DESC], …] [OFFSET n LIMIT n]

Expressions: literals, @parameters, paths, [arrays], {objects}, = != <> < <= > >=, AND, OR, NOT,
IN, BETWEEN, and function calls. Every expression keeps its place in the text, from which the query
plan cuts the pieces of the rewritten query.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from infra.local.cosmos.errors import CosmosError, unsupported
from infra.local.cosmos.syntax import (
    Compound,
    Expression,
    Literal,
    Path,
    Query,
    Span,
    Undefined,
)

_MAX_QUERY_CHARACTERS: Final = 512 * 1024

_TOKEN: Final = re.compile(
    r"""\s*(?:
      (?P<number>-?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
    | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<parameter>@\w+)
    | (?P<word>[A-Za-z_]\w*)
    | (?P<sign><>|!=|<=|>=|[=<>()\[\]{},.:*])
    )""",
    re.VERBOSE,
)

_RESERVED: Final = frozenset(
    ["SELECT", "DISTINCT", "TOP", "VALUE", "FROM", "WHERE", "ORDER", "BY", "ASC", "DESC", "OFFSET",
     "LIMIT", "AND", "OR", "NOT", "IN", "AS", "TRUE", "FALSE", "NULL", "UNDEFINED", "JOIN", "GROUP",
     "BETWEEN", "LIKE", "EXISTS", "UDF", "ARRAY", "ALL"]
)  # fmt: skip


def parse(text: str, parameters: Mapping[str, Any]) -> Query:
    """Parses a query.

    Args:
        text: the query.
        parameters: values by name, names with the `@`.

    Raises:
        CosmosError: 400 for a syntax error or anything outside the subset.
    """
    if len(text) > _MAX_QUERY_CHARACTERS:
        raise CosmosError(
            400, "The SQL query text exceeded the maximum limit of 524288 characters."
        )
    return _Parser(text, parameters).query()


class _Parser:
    def __init__(self, text: str, parameters: Mapping[str, Any]) -> None:
        self.text = text
        self.parameters = parameters
        self.tokens: list[tuple[str, str, int, int]] = []
        self.at = 0
        self.root: str | None = None
        self.roots: list[str] = []
        position, end = 0, len(text.rstrip())
        while position < end:
            match = _TOKEN.match(text, position)
            if match is None:
                raise self.error(position)
            kind = match.lastgroup or ""
            self.tokens.append((kind, match[kind], match.start(kind), match.end()))
            position = match.end()
        self.tokens.append(("end", "", end, end))

    # Tokens.

    def error(self, position: int) -> CosmosError:
        near = self.text[position : position + 20].strip() or "the end"
        return CosmosError(
            400,
            f"Syntax error, incorrect syntax near '{near}' (position {position}); the local "
            "endpoint knows a subset of the Cosmos SQL grammar, see infra/local/cosmos/README.md.",
        )

    def fail(self) -> NoReturn:
        raise self.error(self.tokens[self.at][2])

    def peek(self, *texts: str) -> bool:
        kind, text, _, _ = self.tokens[self.at]
        return kind in ("word", "sign") and text.upper() in texts

    def accept(self, *texts: str) -> bool:
        if self.peek(*texts):
            self.at += 1
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.accept(text):
            self.fail()

    def take(self, kind: str) -> str:
        if self.tokens[self.at][0] != kind:
            self.fail()
        self.at += 1
        return self.tokens[self.at - 1][1]

    def name(self) -> str:
        name = self.take("word")
        if name.upper() in _RESERVED:
            self.at -= 1
            self.fail()
        return name

    def count(self) -> int:
        kind, text, _, _ = self.tokens[self.at]
        value = self.parameters.get(text) if kind == "parameter" else None
        if kind == "number" and text.isdecimal():
            value = int(text)
        if type(value) is not int or value < 0:
            self.fail()
        self.at += 1
        return value

    def span(self, start: int) -> Span:
        return Span(start, self.tokens[self.at - 1][3])

    # Grammar.

    def query(self) -> Query:
        self.expect("SELECT")
        distinct = self.accept("DISTINCT")
        top = self.count() if self.accept("TOP") else None
        value = self.accept("VALUE")
        projection: tuple[tuple[str, Expression], ...] | None = None
        if value:
            projection = (("", self.expression()),)
        elif not self.accept("*"):
            projection = self.projection()
        self.expect("FROM")
        source = self.name()
        if self.peek("IN", "JOIN", ".", "["):
            raise unsupported("JOIN, or FROM anything but the container itself")
        self.root = source
        if self.accept("AS") or (
            self.tokens[self.at][0] == "word" and self.tokens[self.at][1].upper() not in _RESERVED
        ):
            self.root = self.name()
        if any(root != self.root for root in self.roots):
            raise CosmosError(400, f"Identifier could not be resolved: FROM names {self.root!r}.")
        if self.peek("JOIN", "GROUP"):
            raise unsupported("JOIN and GROUP BY")
        where = self.expression() if self.accept("WHERE") else None
        where_end = self.tokens[self.at - 1][3]
        if self.peek("GROUP"):
            raise unsupported("GROUP BY")
        order = self.order() if self.accept("ORDER") else ()
        offset = limit = None
        if self.accept("OFFSET"):
            offset = self.count()
            self.expect("LIMIT")
            limit = self.count()
        if self.tokens[self.at][0] != "end":
            self.fail()
        if top is not None and limit is not None:
            raise CosmosError(400, "'TOP' cannot be used with 'OFFSET LIMIT' in the same query.")
        return Query(
            self.text, projection, value, distinct, top, where, order, offset, limit,
            self.root, where_end,
        )  # fmt: skip

    def projection(self) -> tuple[tuple[str, Expression], ...]:
        fields: list[tuple[str, Expression]] = []
        unnamed = 0
        while True:
            expression = self.expression()
            if self.accept("AS"):
                name = self.name()
            elif isinstance(expression, Path) and expression.keys:
                name = str(expression.keys[-1])
            else:
                unnamed += 1
                name = f"${unnamed}"
            if any(name == other for other, _ in fields):
                raise CosmosError(400, f"Cannot use the property name {name!r} more than once.")
            fields.append((name, expression))
            if not self.accept(","):
                return tuple(fields)

    def order(self) -> tuple[tuple[Expression, bool], ...]:
        self.expect("BY")
        items: list[tuple[Expression, bool]] = []
        while True:
            expression = self.expression()
            vector = isinstance(expression, Compound) and expression.name == "VECTORDISTANCE"
            if vector and self.peek("ASC", "DESC"):
                raise CosmosError(400, "ORDER BY VectorDistance takes neither ASC nor DESC.")
            if not vector and not (isinstance(expression, Path) and expression.keys):
                raise CosmosError(400, "Unsupported ORDER BY clause: name a property path.")
            descending = self.accept("DESC")
            if not descending:
                self.accept("ASC")
            items.append((expression, descending))
            if not self.accept(","):
                return tuple(items)

    def expression(self) -> Expression:
        return self.chain("OR", lambda: self.chain("AND", self.negation))

    def chain(self, word: str, operand: Any) -> Expression:
        start = self.tokens[self.at][2]
        operands = [operand()]
        while self.accept(word):
            operands.append(operand())
        first: Expression = operands[0]
        return first if len(operands) == 1 else Compound(word, tuple(operands), self.span(start))

    def negation(self) -> Expression:
        start = self.tokens[self.at][2]
        if self.accept("NOT"):
            return Compound("NOT", (self.negation(),), self.span(start))
        left = self.primary()
        negated = self.accept("NOT")
        if self.accept("IN"):
            self.expect("(")
            inside = Compound("IN", (left, *self.listed(")")), self.span(start))
            return Compound("NOT", (inside,), inside.span) if negated else inside
        if self.accept("BETWEEN"):
            low = self.primary()
            self.expect("AND")
            high = self.primary()
            span = self.span(start)
            bounds = (Compound(">=", (left, low), span), Compound("<=", (left, high), span))
            between = Compound("AND", bounds, span)
            return Compound("NOT", (between,), span) if negated else between
        if negated or self.peek("LIKE"):
            raise unsupported("LIKE")
        sign = self.tokens[self.at][1]
        if self.accept("=", "!=", "<>", "<", "<=", ">", ">="):
            right = self.primary()
            name = "!=" if sign == "<>" else sign
            return Compound(name, (left, right), self.span(start))
        return left

    def listed(self, close: str) -> list[Expression]:
        items: list[Expression] = []
        if self.accept(close):
            return items
        while True:
            items.append(self.expression())
            if self.accept(close):
                return items
            self.expect(",")

    def primary(self) -> Expression:  # noqa: PLR0911 (one return a form)
        kind, text, start, _ = self.tokens[self.at]
        if self.accept("("):
            inner = self.expression()
            self.expect(")")
            return inner
        if self.accept("["):
            return Compound("[]", tuple(self.listed("]")), self.span(start))
        if self.accept("{"):
            return self.object(start)
        self.at += 1
        if kind == "number":
            return Literal(json.loads(text) if _is_json(text) else float(text), self.span(start))
        if kind == "string":
            return Literal(_unquoted(text), self.span(start))
        if kind == "parameter":
            if text not in self.parameters:
                raise CosmosError(400, f"The parameter {text} of the query has no value.")
            return Literal(self.parameters[text], self.span(start))
        if kind == "word":
            return self.word(text, start)
        raise self.error(start)

    def word(self, text: str, start: int) -> Expression:
        upper = text.upper()
        if upper in ("TRUE", "FALSE"):
            return Literal(upper == "TRUE", self.span(start))
        if upper == "NULL":
            return Literal(None, self.span(start))
        if upper == "UNDEFINED":
            return Undefined(self.span(start))
        if upper == "UDF":
            raise unsupported("user-defined functions")
        if self.peek("("):
            self.at += 1
            return Compound(upper, tuple(self.listed(")")), self.span(start))
        if upper in _RESERVED:
            self.at -= 1
            self.fail()
        if self.root is None:
            self.roots.append(text)
        elif text != self.root:
            raise CosmosError(400, f"Identifier '{text}' could not be resolved.")
        return self.path(start)

    def path(self, start: int) -> Path:
        keys: list[str | int] = []
        while True:
            if self.accept("."):
                keys.append(self.take("word"))
            elif self.accept("["):
                kind, text, _, _ = self.tokens[self.at]
                if kind == "string":
                    keys.append(_unquoted(text))
                elif kind == "number" and text.isdecimal():
                    keys.append(int(text))
                else:
                    self.fail()
                self.at += 1
                self.expect("]")
            else:
                return Path(tuple(keys), self.span(start))

    def object(self, start: int) -> Expression:
        fields: list[str] = []
        values: list[Expression] = []
        while not self.accept("}"):
            if fields:
                self.expect(",")
            fields.append(_unquoted(self.take("string")))
            self.expect(":")
            values.append(self.expression())
        return Compound("{}", tuple(values), self.span(start), tuple(fields))


def _is_json(number: str) -> bool:
    return re.fullmatch(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", number) is not None


def _unquoted(text: str) -> str:
    if text[0] == "'":
        text = '"' + text[1:-1].replace("\\'", "'").replace('"', '\\"') + '"'
    try:
        return str(json.loads(text, strict=False))
    except ValueError:
        raise CosmosError(400, f"The string {text} of the query is not valid.") from None
