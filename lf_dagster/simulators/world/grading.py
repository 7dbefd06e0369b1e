"""Scores of the generated traces: all data types, sources and subjects."""

from __future__ import annotations

import random
from typing import Any

from lf_dagster.simulators.langfuse import scores
from lf_dagster.simulators.langfuse.values import iso, stored_text
from lf_dagster.simulators.world.catalogue import CATEGORIES, SCORE_COMMENTS
from lf_dagster.simulators.world.drafts import Draft

_SCORE_DELAY_MS = 4000


def grade(chance: random.Random, draft: Draft, project_id: str) -> list[tuple[int, dict[str, Any]]]:
    """The trace's scores, each with the moment at which it becomes visible (epoch ms)."""
    made: list[tuple[int, dict[str, Any]]] = []
    for number in range(chance.choice((0, 0, 1, 1, 2, 3))):
        at_ms = draft.last_ms + chance.randrange(1000, 600_000)
        columns = {**_value(chance), **_subject(chance, draft)}
        if columns["data_type"] == "CORRECTION" and columns.get("sessionId"):
            continue
        visible_ms = at_ms + _SCORE_DELAY_MS + draft.late_ms
        made.append(
            (
                visible_ms,
                scores.score(
                    id=f"score-{draft.id[:40]}-{number}",
                    timestamp=iso(at_ms),
                    project_id=project_id,
                    environment=draft.environment,
                    source=_source(chance, columns),
                    comment=chance.choice(SCORE_COMMENTS),
                    metadata=_metadata(chance),
                    createdAt=iso(visible_ms - visible_ms % 1000),
                    updatedAt=iso(visible_ms),
                    **columns,
                ),
            )
        )
    return made


def annotation(chance: random.Random, draft: Draft, at_ms: int, project_id: str) -> dict[str, Any]:
    """A score that somebody gives a trace later on; its timestamp is the moment at which it is given."""
    return scores.score(
        id=f"score-{draft.id[:40]}-later",
        name="review",
        data_type="NUMERIC",
        timestamp=iso(at_ms),
        project_id=project_id,
        environment=draft.environment,
        value=chance.choice((1, 2, 3, 4, 5)),
        comment=chance.choice(SCORE_COMMENTS),
        traceId=draft.id,
    )


def lost_score(chance: random.Random, at_ms: int, project_id: str) -> dict[str, Any]:
    """A score of a trace that does not exist: the new generation returns it, the legacy one leaves it out."""
    return scores.score(
        id=f"score-lost-{chance.getrandbits(48):012x}",
        name="quality",
        data_type="NUMERIC",
        timestamp=iso(at_ms),
        project_id=project_id,
        value=0.25,
        traceId=f"{chance.getrandbits(128):032x}",
    )


def _value(chance: random.Random) -> dict[str, Any]:
    kind = chance.choice(("NUMERIC", "NUMERIC", "BOOLEAN", "CATEGORICAL", "TEXT", "CORRECTION"))
    if kind == "NUMERIC":
        return {"name": "quality", "data_type": kind, "value": chance.choice((0, 1, -2.5, round(chance.random(), 6)))}
    if kind == "BOOLEAN":
        yes = chance.random() < 0.7
        return {"name": "helpful", "data_type": kind, "value": int(yes), "stringValue": str(yes)}
    if kind == "CATEGORICAL":
        label, value = chance.choice(CATEGORIES)
        return {"name": "tone", "data_type": kind, "value": value, "stringValue": label}
    text = "A better answer — with ünïcode" if kind == "CORRECTION" else "Nice, but slow 🙂"
    return {"name": "output" if kind == "CORRECTION" else "remark", "data_type": kind, "value": 0, "stringValue": text}


def _subject(chance: random.Random, draft: Draft) -> dict[str, Any]:
    draw = chance.random()
    if draw < 0.3 and draft.spans:
        return {"traceId": draft.id, "observationId": chance.choice(draft.spans).id}
    if draw < 0.4 and draft.session_id:
        return {"sessionId": draft.session_id}
    if draw < 0.43:
        return {"datasetRunId": f"run-{chance.randrange(3)}"}
    return {"traceId": draft.id}


def _source(chance: random.Random, columns: dict[str, Any]) -> str:
    if columns["data_type"] in ("TEXT", "CORRECTION"):
        return "ANNOTATION"
    return chance.choice(("API", "API", "EVAL"))


def _metadata(chance: random.Random) -> dict[str, str]:
    return chance.choice(({}, {}, {"by": "rater", "n": stored_text(chance.randrange(500))}))
