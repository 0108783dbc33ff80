"""Evaluation of expressions: a syntax tree becomes a closure from item to value.

Absent values propagate as UNDEFINED and operators follow three-valued logic; values of different
types are never equal and never unequal. Source: "Azure Cosmos DB for NoSQL: operators", tables of
equality and of logical operators.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, Final

from infra.local.cosmos import syntax
from infra.local.cosmos.errors import CosmosError, unsupported
from infra.local.cosmos.store import Container, Json

Evaluator = Callable[[Json], Any]


class _Undefined:
    def __repr__(self) -> str:
        return "undefined"


UNDEFINED: Final = _Undefined()

_ORDERED: Final = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
AGGREGATES: Final = {"COUNT": "Count", "SUM": "Sum", "MIN": "Min", "MAX": "Max", "AVG": "Average"}


def rank(value: Any) -> int:
    """The place of a value's type in the order of types."""
    if value is UNDEFINED:
        return 0
    if value is None:
        return 1
    if isinstance(value, bool):
        return 2
    if isinstance(value, int | float):
        return 3
    if isinstance(value, str):
        return 4
    return 5 if isinstance(value, list) else 6


def sort_key(value: Any) -> tuple[int, Any]:
    """A key that sorts values as ORDER BY does: by type, then by value.

    Raises:
        CosmosError: 400 for an array or object, which have no order.
    """
    place = rank(value)
    if place > 4:
        raise unsupported("ORDER BY over arrays or objects")
    return place, (0 if place < 2 else value)


def compiled(  # noqa: PLR0911 (one return a form)
    expression: syntax.Expression, container: Container
) -> Evaluator:
    """Compiles an expression.

    Args:
        expression: the syntax tree, free of aggregates.
        container: its vector policy decides what VectorDistance computes.

    Raises:
        CosmosError: 400 for an unknown function or a wrong number of arguments.
    """
    match expression:
        case syntax.Literal(value):
            return lambda _: value
        case syntax.Undefined():
            return lambda _: UNDEFINED
        case syntax.Path(keys):
            return _path(keys)
        case syntax.Compound("VECTORDISTANCE"):
            return _vector_distance(expression, container)
        case syntax.Compound("OR") if (
            dispatched := _dispatched(expression, container)
        ) is not None:
            return dispatched
    parts = [compiled(operand, container) for operand in expression.operands]
    match expression.name:
        case "AND" | "OR":
            return _logical(parts, expression.name == "OR")
        case "NOT":
            return _not(parts[0])
        case "IN":
            return _in(parts)
        case "=" | "!=":
            return _equality(parts[0], parts[1], expression.name == "=")
        case "<" | "<=" | ">" | ">=":
            return _comparison(parts[0], parts[1], _ORDERED[expression.name])
        case "[]":
            return lambda item: [v for part in parts if (v := part(item)) is not UNDEFINED]
        case "{}":
            pairs = list(zip(expression.fields, parts, strict=True))
            return lambda item: {k: v for k, part in pairs if (v := part(item)) is not UNDEFINED}
    return _function(expression.name, parts)


def candidate_ids(expression: syntax.Expression | None) -> set[str] | None:
    """The ids an item must be among for the expression to hold; None when it does not say."""
    match expression:
        case syntax.Compound("=", (syntax.Path(("id",)), syntax.Literal(str(value)))):
            return {value}
        case syntax.Compound("IN", (syntax.Path(("id",)), *values)):
            found = {v.value for v in values if isinstance(v, syntax.Literal)}
            return {v for v in found if isinstance(v, str)} if len(found) == len(values) else None
        case syntax.Compound("AND", operands):
            known = [ids for part in operands if (ids := candidate_ids(part)) is not None]
            return set.intersection(*known) if known else None
        case syntax.Compound("OR", operands):
            each = [candidate_ids(part) for part in operands]
            return set().union(*each) if None not in each else None  # type: ignore[arg-type]
    return None


def _dispatched(expression: syntax.Compound, container: Container) -> Evaluator | None:
    """An OR whose every branch names its ids, looked up by id.

    The SDK's read_items sends up to a thousand such branches; tried one by one for each item
    they would cost seconds.
    """
    branches: dict[str, list[syntax.Expression]] = {}
    for part in expression.operands:
        ids = candidate_ids(part)
        if ids is None:
            return None
        for item_id in ids:
            branches.setdefault(item_id, []).append(part)
    table = {
        item_id: _logical([compiled(part, container) for part in parts], any_of=True)
        for item_id, parts in branches.items()
    }
    return lambda item: table[item["id"]](item) if item["id"] in table else False


def _path(keys: tuple[str | int, ...]) -> Evaluator:
    if len(keys) == 1 and isinstance(keys[0], str):
        name = keys[0]
        return lambda item: item.get(name, UNDEFINED)

    def walk(item: Json) -> Any:
        here: Any = item
        for key in keys:
            if isinstance(here, dict) and isinstance(key, str):
                here = here.get(key, UNDEFINED)
            elif isinstance(here, list) and isinstance(key, int) and key < len(here):
                here = here[key]
            else:
                return UNDEFINED
        return here

    return walk


def _logical(parts: list[Evaluator], any_of: bool) -> Evaluator:
    def evaluate(item: Json) -> Any:
        result: Any = not any_of
        for part in parts:
            value = part(item)
            if value is any_of:
                return any_of
            if not isinstance(value, bool):
                result = UNDEFINED
        return result

    return evaluate


def _not(part: Evaluator) -> Evaluator:
    def evaluate(item: Json) -> Any:
        value = part(item)
        return not value if isinstance(value, bool) else UNDEFINED

    return evaluate


def equal(left: Any, right: Any) -> Any:
    """Equality: UNDEFINED for undefined operands and for operands of different types."""
    place = rank(left)
    if place == 0 or place != rank(right):
        return UNDEFINED
    if place == 5:
        return len(left) == len(right) and all(
            equal(a, b) is True for a, b in zip(left, right, strict=True)
        )
    if place == 6:
        return left.keys() == right.keys() and all(equal(left[k], right[k]) is True for k in left)
    return left == right


def _equality(left: Evaluator, right: Evaluator, wanted: bool) -> Evaluator:
    def evaluate(item: Json) -> Any:
        a = left(item)
        if not wanted and rank(a) > 4:
            return UNDEFINED  # two arrays or objects can be equal, and not unequal
        result = equal(a, right(item))
        return result is wanted if result is not UNDEFINED else UNDEFINED

    return evaluate


def _comparison(left: Evaluator, right: Evaluator, compare: Callable[[Any, Any], Any]) -> Evaluator:
    def evaluate(item: Json) -> Any:
        a, b = left(item), right(item)
        place = rank(a)
        if place != rank(b) or place not in (2, 3, 4):
            return UNDEFINED
        return compare(a, b)

    return evaluate


def _in(parts: list[Evaluator]) -> Evaluator:
    return _logical([_equality(parts[0], part, wanted=True) for part in parts[1:]], any_of=True)


def _on_strings(function: Callable[[str, str], bool]) -> Callable[..., Any]:
    return lambda a, b: function(a, b) if isinstance(a, str) and isinstance(b, str) else UNDEFINED


def _array_contains(array: Any, wanted: Any, partial: Any = False) -> Any:
    if not isinstance(array, list) or wanted is UNDEFINED:
        return UNDEFINED if array is UNDEFINED else False
    if partial is True and isinstance(wanted, dict):
        return any(
            isinstance(element, dict)
            and all(equal(element.get(k, UNDEFINED), v) is True for k, v in wanted.items())
            for element in array
        )
    return any(equal(element, wanted) is True for element in array)


# Name: (fewest arguments, most arguments, function).
_FUNCTIONS: Final[dict[str, tuple[int, int, Callable[..., Any]]]] = {
    "IS_DEFINED": (1, 1, lambda value: value is not UNDEFINED),
    "IS_NULL": (1, 1, lambda value: value is None),
    "IS_STRING": (1, 1, lambda value: rank(value) == 4),
    "IS_NUMBER": (1, 1, lambda value: rank(value) == 3),
    "IS_ARRAY": (1, 1, lambda value: rank(value) == 5),
    "STARTSWITH": (2, 2, _on_strings(str.startswith)),
    "ENDSWITH": (2, 2, _on_strings(str.endswith)),
    "CONTAINS": (2, 2, _on_strings(str.__contains__)),
    "LENGTH": (1, 1, lambda v: len(v) if isinstance(v, str) else UNDEFINED),
    "ARRAY_LENGTH": (1, 1, lambda v: len(v) if isinstance(v, list) else UNDEFINED),
    "ARRAY_CONTAINS": (2, 3, _array_contains),
}


def _function(name: str, parts: list[Evaluator]) -> Evaluator:
    if name in AGGREGATES:
        raise unsupported(f"{name} anywhere but as the whole of SELECT VALUE {name}(…)")
    if name not in _FUNCTIONS:
        raise unsupported(f"the function {name}")
    fewest, most, function = _FUNCTIONS[name]
    if not fewest <= len(parts) <= most:
        raise CosmosError(400, f"The {name} function requires {fewest} to {most} argument(s).")
    return lambda item: function(*[part(item) for part in parts])


def distance_function(expression: syntax.Compound, container: Container) -> tuple[str, int]:
    """What a VectorDistance call computes: the policy's function and number of dimensions.

    Raises:
        CosmosError: 400 when the call is wrong or the container has no policy for the path.
    """
    arguments = expression.operands
    if len(arguments) == 4:
        raise unsupported("options for one call of VectorDistance")
    if not 2 <= len(arguments) <= 3:
        raise CosmosError(
            400, "VectorDistance takes two vectors and an optional exact-search flag."
        )
    policy = container.body.get("vectorEmbeddingPolicy", {}).get("vectorEmbeddings", [])
    for argument in arguments[:2]:
        if isinstance(argument, syntax.Path):
            path = "/" + "/".join(str(key) for key in argument.keys)
            for embedding in policy:
                if embedding["path"] == path:
                    return str(embedding["distanceFunction"]), int(embedding["dimensions"])
    raise CosmosError(
        400,
        "VectorDistance needs a path that the container's vector embedding policy names. "
        "Create the container with a vector embedding policy.",
    )


def _vector_distance(expression: syntax.Compound, container: Container) -> Evaluator:
    function, dimensions = distance_function(expression, container)
    first, second = (compiled(part, container) for part in expression.operands[:2])
    for argument, vector in zip(expression.operands[:2], (first, second), strict=True):
        if not isinstance(argument, syntax.Path) and not _is_vector(vector({}), dimensions):
            raise CosmosError(
                400, f"The query vector must be an array of {dimensions} numbers, as in the policy."
            )
    if len(expression.operands) == 3 and not isinstance(
        getattr(expression.operands[2], "value", None), bool
    ):
        raise unsupported("a third argument of VectorDistance that is neither true nor false")

    def evaluate(item: Json) -> Any:
        a, b = first(item), second(item)
        if not _is_vector(a, dimensions) or not _is_vector(b, dimensions):
            return UNDEFINED
        if function == "euclidean":
            return math.dist(a, b)
        product = sum(map(operator.mul, a, b))
        if function == "dotproduct":
            return product
        norms = math.hypot(*a) * math.hypot(*b)
        return product / norms if norms else UNDEFINED

    return evaluate


def _is_vector(value: Any, dimensions: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == dimensions
        and all(type(x) is float or type(x) is int for x in value)
    )
