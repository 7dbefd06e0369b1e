"""LG-10: every observation is kept with its type and its place in the tree."""

from __future__ import annotations

from pathlib import Path

from lf_dagster.simulators.langfuse.rows import TYPES
from tests.automation.rows import Life
from tests.langguard.readpaths import both_read_paths, legacy_trace, query, read

NEW = "HANDOFF"
"""A type that no Langfuse has yet."""


@both_read_paths
def test_lg10_all_types_and_an_unknown_one_keep_their_parents(tmp_path: Path, mode: str) -> None:
    life = Life()
    parent: str | None = None
    for number, kind in enumerate([*TYPES, NEW]):
        life.span(f"o{number:02d}", f"07T10:{number:02d}", type=kind, parentObservationId=parent)
        parent = f"o{number:02d}"
    legacy_trace(life, "t", "07T10:00")
    with read(tmp_path, life, mode) as shop:
        rows = query(shop, "SELECT observation_id, parent_observation_id, type, depth FROM observations ORDER BY ALL")
        (counted,) = query(shop, "SELECT n_observations, n_generations FROM traces")
    assert len(TYPES) == 10
    assert [row["type"] for row in rows] == [*TYPES, NEW]
    assert [row["observation_id"] for row in rows] == [f"o{number:02d}" for number in range(11)]
    assert [row["parent_observation_id"] for row in rows] == [None, *(f"o{number:02d}" for number in range(10))]
    assert [row["depth"] for row in rows] == list(range(11))
    assert counted == {"n_observations": 11, "n_generations": 1}
