"""SQL over a payload's parts: one text out of them, a hash, and what is known of its form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lf_dagster.events.cutting import MAX_ITEMS

_FLAT = {"VARCHAR", "BIGINT", "DOUBLE", "BOOLEAN", "VARCHAR[]", "MAP(VARCHAR, VARCHAR)"}
_FEW = 200


def concat(fragments: Iterable[str]) -> str:
    """One text out of fragments; those that are NULL vanish."""
    return f"concat({', '.join(fragments)})"


def payload_hash(values: Iterable[str]) -> str:
    """A hash of the values. DuckDB's own is five times as quick as md5, but may change with DuckDB: hashes are only
    compared under the same mark, which stands before the dash."""
    return f"left(to_hex(hash('lf_dagster')), 4) || '-' || to_hex(hash({', '.join(values)}))"


def wellformed(columns: Mapping[str, str]) -> str:
    """Whether a payload is JSON, shallow and narrow because of how it is formed: then nobody has to parse it.

    `columns` are its properties with their SQL types. Strings are escaped and numbers finite, so only a list or an
    object can have too many members.
    """
    types = {sql_type for sql_type in columns.values() if not sql_type.startswith("DECIMAL")}
    if len(columns) > _FEW or not types <= _FLAT:
        return "false"
    counts = [f"len({column})" for column, sql_type in columns.items() if sql_type.endswith("[]")]
    counts += [f"cardinality({column})" for column, sql_type in columns.items() if sql_type.startswith("MAP")]
    return f"coalesce(greatest({', '.join(counts)}), 0) <= {MAX_ITEMS}" if counts else "true"
