# ruff: noqa: S608 (the query texts here are Cosmos SQL for the SDK; SQLite never sees them)
"""The query plan that the service's gateway hands to SDKs for cross-partition queries.

ORDER BY, TOP, OFFSET LIMIT, DISTINCT and aggregates over several partitions are finished by the
SDK: it asks for a plan, sends the rewritten query to every partition key range and merges. The
shapes are those the SDK reads (`azure.cosmos._execution_context.query_execution_info`).
"""

from __future__ import annotations

from typing import Final

from infra.local.cosmos import evaluate, syntax
from infra.local.cosmos.errors import unsupported
from infra.local.cosmos.store import Container, Json

# SDKs put a resume condition here, or `true`.
_FILTER: Final = "{documentdb-formattableorderbyquery-filter}"


def aggregates(expression: syntax.Expression) -> list[syntax.Compound]:
    """The aggregate calls inside an expression."""
    if not isinstance(expression, syntax.Compound):
        return []
    if expression.name in evaluate.AGGREGATES:
        return [expression]
    return [found for operand in expression.operands for found in aggregates(operand)]


def has_aggregate(query: syntax.Query) -> bool:
    """Whether the SELECT list folds all items into one result."""
    return any(aggregates(expression) for _, expression in query.projection or ())


def needs_plan(query: syntax.Query) -> bool:
    """Whether the query spans partitions in a way that only the SDK can finish."""
    windows = (query.top, query.offset, query.limit)
    return bool(
        query.order
        or query.distinct
        or has_aggregate(query)
        or any(part is not None for part in windows)
    )


def vector_order(query: syntax.Query) -> syntax.Compound | None:
    """The VectorDistance call the query is ordered by."""
    first = query.order[0][0] if query.order else None
    if isinstance(first, syntax.Compound):
        if len(query.order) > 1:
            raise unsupported("ORDER BY VectorDistance together with other properties")
        return first
    return None


def descending(query: syntax.Query, container: Container) -> list[bool]:
    """The direction of each ORDER BY item; by vector distance the most similar comes first."""
    vector = vector_order(query)
    if vector is not None:
        return [evaluate.distance_function(vector, container)[0] != "euclidean"]
    return [falling for _, falling in query.order]


def build(query: syntax.Query, container: Container) -> Json:
    """The plan of a query: what the SDK has to do and the query each partition gets."""
    folded = has_aggregate(query)
    if query.distinct and (query.order or folded):
        raise unsupported("DISTINCT together with ORDER BY or an aggregate across partitions")
    calls = [call for _, expression in query.projection or () for call in aggregates(expression)]
    info: Json = {
        "distinctType": "Unordered" if query.distinct else "None",
        "top": query.top,
        "offset": query.offset,
        "limit": query.limit,
        "orderBy": ["Descending" if d else "Ascending" for d in descending(query, container)],
        "orderByExpressions": [query.source(expression) for expression, _ in query.order],
        "groupByExpressions": [],
        "groupByAliases": [],
        "groupByAliasToAggregateType": {},
        "aggregates": [evaluate.AGGREGATES[call.name] for call in calls],
        "rewrittenQuery": _rewritten(query),
        "hasSelectValue": query.value,
        "dCountInfo": None,
        "hasNonStreamingOrderBy": vector_order(query) is not None,
    }
    whole = {"min": "", "max": "FF", "isMinInclusive": True, "isMaxInclusive": False}
    return {
        "partitionedQueryExecutionInfoVersion": 2,
        "queryInfo": info,
        "queryRanges": [whole],
    }


def _rewritten(query: syntax.Query) -> str:
    where = query.source(query.where) if query.where is not None else "true"
    root = query.root
    if has_aggregate(query):
        if not query.value:
            return ""  # the SDK refuses the query when it reads the plan
        (_, expression) = (query.projection or ())[0]
        if (
            not isinstance(expression, syntax.Compound)
            or expression.name not in evaluate.AGGREGATES
        ):
            raise unsupported("an expression over aggregates across partitions")
        return f'SELECT VALUE [{{"item": {_partial(query, expression)}}}] FROM {root} WHERE {where}'
    head, tail = "", ""
    if query.limit is not None:
        tail = f" OFFSET 0 LIMIT {(query.offset or 0) + query.limit}"
    if query.top is not None:
        head = f"TOP {query.top} "
    if not query.order:
        if not tail:
            return ""  # nothing to change: the original text serves
        return f"SELECT {_fields(query)} FROM {root} WHERE {where}{tail}"
    keys = [query.source(expression) for expression, _ in query.order]
    items = ", ".join(f'{{"item": {key}}}' for key in keys)
    order = ", ".join(
        f"{key} DESC" if falling else key
        for key, (_, falling) in zip(keys, query.order, strict=True)
    )
    return (
        f"SELECT {head}{root}._rid, [{items}] AS orderByItems, {_payload(query)} AS payload "
        f"FROM {root} WHERE ({_FILTER}) AND ({where}) ORDER BY {order}{tail}"
    )


def _partial(query: syntax.Query, call: syntax.Compound) -> str:
    """What one partition contributes to an aggregate."""
    if call.name != "AVG":
        return query.source(call)
    argument = query.source(call.operands[0])
    return f'{{"sum": SUM({argument}), "count": COUNT({argument})}}'


def _fields(query: syntax.Query) -> str:
    if query.projection is None:
        return "*"
    if query.value:
        return f"VALUE {query.source(query.projection[0][1])}"
    return ", ".join(f"{query.source(e)} AS {name}" for name, e in query.projection)


def _payload(query: syntax.Query) -> str:
    if query.projection is None:
        return query.root
    if query.value:
        return query.source(query.projection[0][1])
    fields = ", ".join(f'"{name}": {query.source(e)}' for name, e in query.projection)
    return f"{{{fields}}}"
