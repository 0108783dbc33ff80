"""Running a query over the items of a container, a page at a time.

A query without ORDER BY, TOP, OFFSET, DISTINCT and aggregates streams in order of creation and
continues after the last item it looked at, so that pages stay right while others write. The rest
is computed whole, and its continuation is a count of results already sent.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from infra.local.cosmos import charges, evaluate, plan, policies, syntax
from infra.local.cosmos.errors import CosmosError, bad_request
from infra.local.cosmos.store import Container, Json, Store

_DEFAULT_PAGE: Final = 100
_MAX_PAGE_BYTES: Final = 4 * 1024 * 1024
_TOKEN: Final = re.compile(r"\+RID:~(?P<rid>[^#]+)#(?P<kind>SEQ|SKIP):(?P<at>\d+)")


@dataclass(frozen=True)
class Page:
    """Results as JSON texts, the token of the next page (None at the end), request charge."""

    results: list[str]
    continuation: str | None
    charge: float


@dataclass(frozen=True)
class Cursor:
    """Where a page starts and how long it may be."""

    max_items: int
    continuation: str | None
    partition: str | None


def page_size(header: str | None) -> int:
    """Items a page may have; the service's default is 100, and -1 leaves the choice to it."""
    if header is None or header == "-1":
        return _DEFAULT_PAGE
    if not header.isdecimal() or int(header) == 0:
        raise bad_request("x-ms-max-item-count must be -1 or a positive number.")
    return int(header)


def feed(store: Store, container: Container, cursor: Cursor) -> Page:
    """All items, a page at a time."""
    start = _position(container, cursor, "SEQ")
    rows = store.scan(container, time.time(), after=start, partition=cursor.partition)
    return _stream(container, cursor, ((row.sequence, row.body) for row in rows))


def run(store: Store, container: Container, query: syntax.Query, cursor: Cursor) -> Page:
    """One page of a query's results.

    Raises:
        CosmosError: 400 for what the subset or the container's policies do not allow.
    """
    if plan.needs_plan(query):
        return _whole(store, container, query, cursor)
    start = _position(container, cursor, "SEQ")
    project = _projector(query, container)
    found = _matches(store, container, query, cursor, start)
    if query.projection is None and not query.value:
        return _stream(container, cursor, ((at, body) for at, body, _ in found))
    return _stream(container, cursor, ((at, project(item)) for at, _, item in found))


def _position(container: Container, cursor: Cursor, kind: str) -> int:
    if cursor.continuation is None:
        return 0
    match = _TOKEN.fullmatch(cursor.continuation)
    if match is None or match["kind"] != kind or match["rid"] != container.rid:
        raise bad_request("The continuation token is not one of this query on this container.")
    return int(match["at"])


def _token(container: Container, kind: str, at: int) -> str:
    return f"+RID:~{container.rid}#{kind}:{at}"


def _matches(
    store: Store, container: Container, query: syntax.Query, cursor: Cursor, start: int
) -> Iterator[tuple[int, str, Json]]:
    """Items for which WHERE is true: sequence, text and content."""
    holds = evaluate.compiled(query.where, container) if query.where is not None else None
    ids = evaluate.candidate_ids(query.where)
    rows = store.scan(
        container,
        time.time(),
        after=start,
        partition=cursor.partition,
        ids=None if ids is None else sorted(ids),
    )
    for row in rows:
        item = json.loads(row.body)
        if holds is None or holds(item) is True:
            yield row.sequence, row.body, item


def _projector(query: syntax.Query, container: Container) -> Any:
    """From an item to the JSON text of its result, or None when there is none."""
    fields = [(name, evaluate.compiled(e, container)) for name, e in query.projection or ()]

    def project(item: Json) -> str | None:
        if query.value:
            value = fields[0][1](item)
            return None if value is evaluate.UNDEFINED else _text(value)
        return _text({n: v for n, part in fields if (v := part(item)) is not evaluate.UNDEFINED})

    return project if query.projection is not None else _text


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _stream(container: Container, cursor: Cursor, found: Iterator[tuple[int, str | None]]) -> Page:
    """Takes results until the page is full; one more tells whether another page follows."""
    results: list[str] = []
    size, looked_at, last = 0, 0, 0
    for sequence, text in found:
        if len(results) >= cursor.max_items or size >= _MAX_PAGE_BYTES:
            token = _token(container, "SEQ", last)
            return Page(results, token, charges.query(looked_at, size))
        looked_at, last = looked_at + 1, sequence
        if text is not None:
            results.append(text)
            size += len(text)
    return Page(results, None, charges.query(looked_at, size))


def _whole(store: Store, container: Container, query: syntax.Query, cursor: Cursor) -> Page:
    start = _position(container, cursor, "SKIP")
    vector = plan.vector_order(query)
    if vector is not None and query.top is None and query.limit is None:
        raise bad_request("ORDER BY VectorDistance needs TOP or OFFSET LIMIT. Add SELECT TOP n.")
    with_undefined = vector is None and policies.check_order(container, query)
    if plan.has_aggregate(query):
        results, looked_at = _aggregated(store, container, query, cursor)
    else:
        items = [item for _, _, item in _matches(store, container, query, cursor, 0)]
        looked_at = len(items)
        _sort(items, container, query, with_undefined=with_undefined)
        project = _projector(query, container)
        results = [text for item in items if (text := project(item)) is not None]
    if query.distinct:
        results = list(dict.fromkeys(results))
    results = results[query.offset or 0 :]
    if query.top is not None or query.limit is not None:
        results = results[: query.top if query.top is not None else query.limit]
    page = results[start : start + cursor.max_items]
    end = start + len(page)
    token = _token(container, "SKIP", end) if end < len(results) else None
    return Page(page, token, charges.query(looked_at, sum(map(len, page))))


def _sort(
    items: list[Json], container: Container, query: syntax.Query, *, with_undefined: bool
) -> None:
    falling = plan.descending(query, container)
    # Python's sort is stable: sorting by the last key first orders by all of them.
    for (expression, _), reverse in reversed(list(zip(query.order, falling, strict=True))):
        value = evaluate.compiled(expression, container)
        if not with_undefined:
            # Such an item (one without a valid vector, too) is not in the index.
            items[:] = [item for item in items if value(item) is not evaluate.UNDEFINED]
        items.sort(key=_key(value), reverse=reverse)


def _key(value: evaluate.Evaluator) -> Callable[[Json], Any]:
    return lambda item: evaluate.sort_key(value(item))


def _aggregated(
    store: Store, container: Container, query: syntax.Query, cursor: Cursor
) -> tuple[list[str], int]:
    """The single result of an aggregate query, as a list, and how many items it looked at."""
    calls = [c for _, e in query.projection or () for c in plan.aggregates(e)]
    if any(len(call.operands) != 1 for call in calls):
        raise bad_request("An aggregate function takes exactly one argument.")
    if query.where is None and all(
        call.name == "COUNT" and isinstance(call.operands[0], syntax.Literal) for call in calls
    ):
        total = store.count(container, time.time(), cursor.partition)
        values: dict[syntax.Span, Any] = {call.span: total for call in calls}
    else:
        operands = [evaluate.compiled(call.operands[0], container) for call in calls]
        columns: list[list[Any]] = [[] for _ in calls]
        for _, _, item in _matches(store, container, query, cursor, 0):
            for column, operand in zip(columns, operands, strict=True):
                column.append(operand(item))
        total = len(columns[0])
        values = {c.span: _fold(c.name, col) for c, col in zip(calls, columns, strict=True)}
    folded = [(name, _substituted(e, values)) for name, e in query.projection or ()]
    results = {name: evaluate.compiled(e, container)({}) for name, e in folded}
    defined = {n: v for n, v in results.items() if v is not evaluate.UNDEFINED}
    if query.value:
        return [_text(v) for v in defined.values()], total
    return [_text(defined)], total


def _substituted(
    expression: syntax.Expression, values: dict[syntax.Span, Any]
) -> syntax.Expression:
    """The expression with each aggregate call replaced by its value."""
    if isinstance(expression, syntax.Path):
        raise CosmosError(
            400, "Property reference is invalid in the select list next to an aggregate function."
        )
    if not isinstance(expression, syntax.Compound):
        return expression
    if expression.span in values and expression.name in evaluate.AGGREGATES:
        value = values[expression.span]
        undefined = value is evaluate.UNDEFINED
        return (
            syntax.Undefined(expression.span)
            if undefined
            else syntax.Literal(value, expression.span)
        )
    parts = tuple(_substituted(operand, values) for operand in expression.operands)
    return syntax.Compound(expression.name, parts, expression.span, expression.fields)


def _fold(name: str, column: list[Any]) -> Any:
    defined = [value for value in column if value is not evaluate.UNDEFINED]
    if name == "COUNT":
        return len(defined)
    if name in ("MIN", "MAX"):
        choose = min if name == "MIN" else max
        return choose(defined, key=evaluate.sort_key, default=evaluate.UNDEFINED)
    if any(evaluate.rank(value) != 3 for value in defined):
        return evaluate.UNDEFINED
    if name == "SUM":
        return sum(defined)
    return sum(defined) / len(defined) if defined else evaluate.UNDEFINED
