"""The algebra of the query subset, without a server."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.local.cosmos import evaluate, plan, sql
from infra.local.cosmos.documents import canonical_key
from infra.local.cosmos.errors import CosmosError
from infra.local.cosmos.evaluate import UNDEFINED
from infra.local.cosmos.store import Container

CONTAINER = Container("db", {"id": "c", "_rid": "AAAAAQAAAAI="})

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(-2, 2, allow_nan=False),
    st.text("ab", max_size=2),
)
documents = st.fixed_dictionaries(
    {"id": st.sampled_from(["i0", "i1", "i2"])}, optional={"a": scalars, "b": scalars}
)
comparisons = st.builds(
    lambda left, sign, right: f"{left} {sign} {right}",
    st.sampled_from(["c.a", "c.b", "c.absent"]),
    st.sampled_from(["=", "!=", "<", "<=", ">", ">="]),
    st.sampled_from(["c.a", "c.b", "1", "-0.5", "'a'", "null", "true", "undefined"]),
)
ids = st.builds(
    lambda names: "c.id IN ({})".format(", ".join(f"'{n}'" for n in names)),
    st.lists(st.sampled_from(["i0", "i1", "i9"]), min_size=1, max_size=3),
)
conditions = st.recursive(
    st.one_of(comparisons, ids, st.just("IS_DEFINED(c.a)")),
    lambda inner: st.one_of(
        st.builds("({} AND {})".format, inner, inner),
        st.builds("({} OR {})".format, inner, inner),
        st.builds("NOT ({})".format, inner),
    ),
    max_leaves=6,
)


def where(condition: str) -> Any:
    return sql.parse(f"SELECT * FROM c WHERE {condition}", {}).where  # noqa: S608


def value(condition: str, document: dict[str, Any]) -> Any:
    return evaluate.compiled(where(condition), CONTAINER)(document)


@given(conditions, conditions, documents)
def test_de_morgan_holds_with_undefined(a: str, b: str, document: dict[str, Any]) -> None:
    assert value(f"NOT ({a} AND {b})", document) is value(f"NOT ({a}) OR NOT ({b})", document)
    assert value(f"NOT ({a} OR {b})", document) is value(f"NOT ({a}) AND NOT ({b})", document)
    assert value(f"NOT NOT ({a})", document) is value(a, document)


@given(conditions, documents)
def test_candidate_ids_leave_out_nothing_that_holds(a: str, document: dict[str, Any]) -> None:
    candidates = evaluate.candidate_ids(where(a))
    if candidates is not None and value(a, document) is True:
        assert document["id"] in candidates


@given(st.lists(st.tuples(ids, comparisons), min_size=2, max_size=4), documents)
def test_an_or_looked_up_by_id_is_the_same_or(
    pairs: list[tuple[str, str]], document: dict[str, Any]
) -> None:
    branches = [f"({a} AND {b})" for a, b in pairs]
    # A branch without ids keeps the lookup away and changes nothing.
    plain = value(" OR ".join([*branches, "false"]), document)
    assert (value(" OR ".join(branches), document) is True) is (plain is True)


@given(scalars, scalars)
def test_the_order_of_values_agrees_with_comparison(a: Any, b: Any) -> None:
    less = evaluate.sort_key(a) < evaluate.sort_key(b)
    compared = value("c.a < c.b", {"id": "x", "a": a, "b": b})
    if compared is not UNDEFINED:
        assert compared is less
    assert (evaluate.equal(a, b) is True) == (evaluate.sort_key(a) == evaluate.sort_key(b))


@given(scalars, scalars)
def test_partition_keys_are_equal_when_the_values_are(a: Any, b: Any) -> None:
    same = evaluate.equal(a, b) is True
    assert (canonical_key([a]) == canonical_key([b])) is same


@pytest.mark.parametrize(
    ("text", "rewritten"),
    [
        (
            "SELECT TOP 2 c.id, c.a AS x FROM c WHERE c.a > 1 ORDER BY c.a DESC, c.b",
            'SELECT TOP 2 c._rid, [{"item": c.a}, {"item": c.b}] AS orderByItems, '
            '{"id": c.id, "x": c.a} AS payload FROM c '
            "WHERE ({documentdb-formattableorderbyquery-filter}) AND (c.a > 1) "
            "ORDER BY c.a DESC, c.b",
        ),
        (
            "SELECT VALUE AVG(c.a) FROM c",
            'SELECT VALUE [{"item": {"sum": SUM(c.a), "count": COUNT(c.a)}}] FROM c WHERE true',
        ),
        (
            "SELECT VALUE c.id FROM c OFFSET 5 LIMIT 2",
            "SELECT VALUE c.id FROM c WHERE true OFFSET 0 LIMIT 7",
        ),
        ("SELECT DISTINCT c.a FROM c", ""),
    ],
)
def test_the_plan_rewrites_a_query_for_one_partition(text: str, rewritten: str) -> None:
    info = plan.build(sql.parse(text, {}), CONTAINER)["queryInfo"]
    assert info["rewrittenQuery"] == rewritten
    if rewritten:  # what the SDK sends back is in the subset itself
        sql.parse(rewritten.replace("{documentdb-formattableorderbyquery-filter}", "true"), {})


@given(st.text(max_size=30))
def test_any_text_parses_or_is_refused(text: str) -> None:
    for query in (text, f"SELECT * FROM c WHERE {text}"):  # noqa: S608
        try:
            sql.parse(query, {})
        except CosmosError as error:
            assert error.status == 400
