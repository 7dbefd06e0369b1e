"""LG-12: an agent by a tag `agent:X`."""

from __future__ import annotations

from pathlib import Path

from tests.automation.rows import Life
from tests.langguard.readpaths import both_read_paths, legacy_trace, query, read

AT = "07T10:10"


@both_read_paths
def test_lg12_a_tag_names_the_agent_trimmed_with_its_case(mode: str, tmp_path: Path) -> None:
    life = Life()
    life.span("o1", AT, trace="t1", tags=["vip", "agent: CustomerService "])
    legacy_trace(life, "t1", AT, tags=["vip", "agent: CustomerService "])
    with read(tmp_path, life, mode) as shop:
        [trace] = query(shop, "SELECT agent_name, agent_source FROM traces")
        assert tuple(trace.values()) == ("CustomerService", "tag")


@both_read_paths
def test_lg12_several_tags_give_several_rows_and_the_first_is_the_primary_one(mode: str, tmp_path: Path) -> None:
    life = Life()
    tags = ["agent:Billing", "agent:", "agent:Refunds", "agent:Billing"]
    life.span("o1", AT, trace="t1", tags=tags)
    legacy_trace(life, "t1", AT, tags=tags)
    with read(tmp_path, life, mode) as shop:
        found = query(shop, "SELECT agent_key, agent_name, detection_source, n_traces FROM agents ORDER BY 1")
        assert [tuple(row.values()) for row in found] == [
            ("Billing", "Billing", "tag", 1),
            ("Refunds", "Refunds", "tag", 1),
        ]
        [trace] = query(shop, "SELECT agent_name FROM traces")
        assert trace["agent_name"] == "Billing"
