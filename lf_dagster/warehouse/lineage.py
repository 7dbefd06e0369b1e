"""Where a model's tables and columns come from, read from the SQL.

Each SELECT is resolved one level deep with sqlglot; levels are then chained through the run's own staging until
tables that outlive a run are reached. A column that is read out of a JSON document names the field, as in
`json.endTime`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import sqlglot
from sqlglot import exp

Columns = Mapping[str, str]
Node = Any
"""A sqlglot node; the name of its base class differs between the versions that are supported."""
Edge = tuple[str, str]

DOCUMENT = "json"
"""Column of the extracts that holds a row's whole JSON object: what is read out of it is told apart."""


def qualified_sql(sql: str, schema: str) -> str:
    """The SELECT with its tables qualified by a schema."""
    tree: Any = sqlglot.parse_one(sql, dialect="duckdb")
    own = {cte.alias for cte in tree.find_all(exp.CTE)}

    def qualify(node: Any) -> Any:
        if isinstance(node, exp.Table) and not node.db and node.name not in own:
            return exp.table_(node.name, db=schema, alias=node.alias or None)
        return node

    return tree.transform(qualify).sql(dialect="duckdb")


class Lineage:
    """Lineage over named SELECTs. `schemas`: column types of every SELECT and of every table that they read.

    `through`: SELECTs that are not tables of their own; dependencies pass through them.
    """

    def __init__(self, sources: Mapping[str, str], schemas: Mapping[str, Columns], through: Iterable[str] = ()) -> None:
        self._schemas = schemas
        self._through = frozenset(through)
        self._trees = {name: sqlglot.parse_one(sql, dialect="duckdb") for name, sql in sources.items()}
        self._edges: dict[str, dict[str, set[Edge]]] = {}

    def tables(self, name: str) -> list[str]:
        """Tables that the SELECT reads, directly or through staging; sorted."""
        found: set[str] = set()
        for table in self._reads(name):
            found |= set(self.tables(table)) if table in self._through else {table}
        return sorted(found - {name})

    def column(self, name: str, column: str) -> list[Edge]:
        """(table, column) pairs that a column is computed from, directly or through staging; sorted."""
        found: set[Edge] = set()
        direct = self._direct(name)
        for table, source in direct.get(column, direct.get(column.partition(".")[0], set())):
            found |= set(self.column(table, source)) if table in self._through else {(table, source)}
        return sorted(found)

    def _reads(self, name: str) -> set[str]:
        tree = self._trees[name]
        own = {cte.alias for cte in tree.find_all(exp.CTE)}
        return {table.name for table in tree.find_all(exp.Table)} - own

    def _direct(self, name: str) -> dict[str, set[Edge]]:
        if name not in self._edges:
            self._edges[name] = _query_edges(self._trees[name], dict(self._schemas_as_edges()))
        return self._edges[name]

    def _schemas_as_edges(self) -> Iterable[tuple[str, dict[str, set[Edge]]]]:
        for table, columns in self._schemas.items():
            names = [*columns, *(_fields(columns) if table in self._through else ())]
            yield table, {name: {(table, name)} for name in names}


def _fields(columns: Columns) -> Iterable[str]:
    """`column.field` for each field of the columns that are structs."""
    for column, kind in columns.items():
        if kind.startswith("STRUCT("):
            struct: Any = exp.DataType.build(kind, dialect="duckdb")
            yield from (f"{column}.{field.name}" for field in struct.expressions)


Relation = dict[str, set[Edge]]
"""Columns of a query, each with its edges; a column that holds whole rows also has their columns, as `row.column`."""


def _query_edges(query: Node, known: dict[str, Relation]) -> Relation:
    """Output columns of a query, each with the base columns it reads; `known` are the relations in sight."""
    known = dict(known)
    with_ = query.args.get("with_") or query.args.get("with")
    for cte in with_.expressions if with_ else []:
        known[cte.alias] = {}  # a recursive CTE reads itself: its anchor decides
        known[cte.alias] = _query_edges(cte.this, known)
    if isinstance(query, exp.SetOperation):
        left, right = _query_edges(query.left, known), _query_edges(query.right, known)
        if not query.args.get("by_name"):
            left, right = _plain(left), _plain(right)
            right = dict(zip(left, right.values(), strict=False))
        return {name: left.get(name, set()) | right.get(name, set()) for name in {**left, **right}}
    if isinstance(query, exp.Subquery):
        return _query_edges(query.this, known)
    if not isinstance(query, exp.Select):
        return {}
    return _select_edges(query, known)


def _select_edges(select: exp.Select, known: dict[str, Relation]) -> Relation:
    scope = _from_scope(select, known)
    output: Relation = {}
    for projection in select.expressions:
        star = projection.find(exp.Star) if not isinstance(projection, exp.Alias) else None
        if star is not None and not projection.find(exp.AggFunc):
            output.update(_star_edges(projection, star, scope))
        else:
            name = projection.alias_or_name
            output[name] = _expression_edges(projection, scope, output, known)
            output |= {f"{name}.{column}": edges for column, edges in _columns_of_rows(projection, scope).items()}
    return output


def _columns_of_rows(projection: Node, scope: dict[str, Relation]) -> Relation:
    """Columns of the rows that a projection holds: made of a relation's rows, made of columns, or handed on."""
    found: Relation = {}
    for column in projection.find_all(exp.Column):
        if column.name in scope and not column.table:
            found |= _plain(scope[column.name])
    inner = projection.unalias()
    if isinstance(inner, exp.Struct):
        found |= {item.name: _expression_edges(item.expression, scope, {}, {}) for item in inner.expressions}
    handed_on = inner.this if isinstance(inner, exp.AggFunc) else inner
    if isinstance(handed_on, exp.Column):
        head = f"{handed_on.name}."
        for relation in scope.values():
            found |= {name[len(head) :]: edges for name, edges in relation.items() if name.startswith(head)}
    return found


def _plain(relation: Relation) -> Relation:
    return {name: edges for name, edges in relation.items() if "." not in name}


def _from_scope(select: exp.Select, known: dict[str, Relation]) -> dict[str, Relation]:
    scope: dict[str, Relation] = {}
    from_ = select.args.get("from_") or select.args.get("from")
    sources = [from_.this] if from_ else []
    sources += [join.this for join in select.args.get("joins") or []]
    for source in sources:
        if isinstance(source, exp.Table):
            scope[source.alias_or_name] = known.get(source.name, {})
        else:
            scope[source.alias_or_name] = _query_edges(source, known)
    return scope


def _star_edges(projection: Node, star: exp.Star, scope: dict[str, Relation]) -> Relation:
    table = projection.table if isinstance(projection, exp.Column) else ""
    excluded = {item.name for item in star.args.get("except_") or star.args.get("except") or []}
    relations = [scope[table]] if table in scope else list(scope.values())
    return {name: set(edges) for relation in relations for name, edges in relation.items() if name not in excluded}


def _expression_edges(
    expression: Node, scope: dict[str, Relation], output: Relation, known: dict[str, Relation]
) -> set[Edge]:
    edges: set[Edge] = set()
    for column in expression.find_all(exp.Column):
        parts = [part.name for part in column.parts]
        edges |= _resolve(parts, scope, output)
    for nested in expression.find_all(exp.Subquery):
        for found in _query_edges(nested.this, known).values():
            edges |= found
    return edges


def _resolve(parts: list[str], scope: dict[str, Relation], output: Relation) -> set[Edge]:
    """`alias.column`, `column` or `column.member`; an earlier output column of the same SELECT last."""
    head = parts[0]
    if head in scope:
        if len(parts) == 1:
            return set().union(*scope[head].values())
        return _members(scope[head], parts[1:])
    for relation in (*scope.values(), output):
        if head in relation:
            return _members(relation, parts)
    return set()


def _members(relation: Relation, parts: list[str]) -> set[Edge]:
    """Edges of `column` or `column.member`: of a row's column, with the field's name where it is one of a document."""
    column, *names = parts
    edges = relation.get(".".join(parts[:2]), relation.get(column, set()))
    if not names:
        return edges
    return {(table, ".".join((source, *names)) if source == DOCUMENT else source) for table, source in edges}
