"""Kinds of traces: what an application does, as nested spans (contract 11.3 names what readers stumble over)."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lf_dagster.simulators.world.catalogue import EMBEDDING, MODELS, PROMPTS, TOPICS, Model
from lf_dagster.simulators.world.drafts import Draft, Span


@dataclass
class Pen:
    """Draws the spans of one draft with its own source of chance."""

    chance: random.Random
    draft: Draft
    absurd_usage: bool

    def span(self, kind: str, name: str, parent: Span | None, *, after_ms: int, lasts_ms: int, **more: Any) -> Span:
        """A span that starts `after_ms` after its parent (or the trace) and lasts `lasts_ms`."""
        origin = self.draft.start_ms if parent is None else parent.start_ms
        start = origin + after_ms
        number = len(self.draft.spans)
        span_id = f"{self.chance.getrandbits(64):016x}" if self.draft.direct else f"{self.draft.id[:40]}:{number}"
        end = start if kind == "EVENT" and self.draft.direct else start + lasts_ms
        drawn = Span(
            id=span_id,
            parent=None if parent is None else parent.id,
            type=kind,
            name=name,
            start_ms=start,
            end_ms=None if kind == "EVENT" and not self.draft.direct else end,
            **more,
        )
        self.draft.spans.append(drawn)
        return drawn

    def generation(self, parent: Span | None, *, after_ms: int, kind: str = "GENERATION") -> Span:
        """A call of a language model with usage, costs, and often a prompt and a first-token time."""
        model = EMBEDDING if kind == "EMBEDDING" else self.chance.choice(MODELS)
        lasts = self.chance.randrange(300, 9000)
        usage, cost = _usage(self.chance, model, kind, absurd=self.absurd_usage)
        question = self.chance.choice(TOPICS)
        made = self.span(
            kind,
            "embed" if kind == "EMBEDDING" else self.chance.choice(("llm", "answer", "ChatOpenAI")),
            parent,
            after_ms=after_ms,
            lasts_ms=lasts,
            usage=usage,
            cost=cost,
            model=model_columns(self.chance, model),
            input=json.dumps([{"role": "user", "content": question}], ensure_ascii=False),
            output=json.dumps({"role": "assistant", "content": f"About {question}: …"}, ensure_ascii=False),
        )
        if kind == "GENERATION" and self.chance.random() < 0.6:
            made.first_token_ms = made.start_ms + self.chance.randrange(0, lasts)
            made.prompt = self.chance.choice((*PROMPTS, None))
        return made


def chat(pen: Pen) -> None:
    """One question and its answer, with retrieval."""
    root = pen.span("SPAN", "handle-message", None, after_ms=0, lasts_ms=pen.chance.randrange(1000, 20000))
    root.input, root.output = pen.chance.choice(TOPICS), "done"
    found = pen.span("RETRIEVER", "search", root, after_ms=5, lasts_ms=pen.chance.randrange(20, 700))
    pen.generation(found, after_ms=2, kind="EMBEDDING")
    pen.generation(root, after_ms=800)
    if pen.chance.random() < 0.4:
        pen.span("EVENT", "feedback-shown", root, after_ms=900, lasts_ms=0, own={"step": 3, "k": "2"})


def agent(pen: Pen) -> None:
    """An agent that thinks and acts in turns, with every kind of observation."""
    root = pen.span("AGENT", "assistant", None, after_ms=0, lasts_ms=pen.chance.randrange(5000, 90000))
    pen.span("GUARDRAIL", "input-check", root, after_ms=3, lasts_ms=40)
    for turn in range(pen.chance.randrange(1, 5)):
        step = pen.span("CHAIN", f"turn-{turn}", root, after_ms=60 + turn * 4000, lasts_ms=3500, own={"step": turn})
        pen.generation(step, after_ms=4)
        _tool(pen, step)
    pen.span("EVALUATOR", "self-check", root, after_ms=4500, lasts_ms=120, level="DEBUG")


def failing(pen: Pen) -> None:
    """A run that ends in an error."""
    root = pen.span("SPAN", "handle-message", None, after_ms=0, lasts_ms=2500, level="ERROR")
    root.status = "Traceback (most recent call last):\n  ValueError: 'naïve' input\u2028at line 3"
    call = pen.generation(root, after_ms=10)
    call.level, call.status, call.usage, call.cost, call.output = "ERROR", "429 Too Many Requests", {}, {}, None


def nightly(pen: Pen) -> None:
    """A long job that crosses one or more hours; its root is exported last."""
    lasts = pen.chance.randrange(40, 180) * 60_000
    root = pen.span("AGENT", "nightly-report", None, after_ms=0, lasts_ms=lasts)
    for number in range(6):
        pen.generation(root, after_ms=lasts * number // 6 + 10)


def orphans(pen: Pen) -> None:
    """Rows whose root and parents never arrived."""
    for number in range(2):
        lost = pen.generation(None, after_ms=number * 30)
        lost.parent = f"{pen.chance.getrandbits(64):016x}"


def two_roots(pen: Pen) -> None:
    """A fan-out: two roots, and an application root below a span that Langfuse never saw."""
    pen.span("SPAN", "worker-a", None, after_ms=40, lasts_ms=500)
    second = pen.span("SPAN", "worker-b", None, after_ms=0, lasts_ms=900)
    pen.generation(second, after_ms=100)
    third = pen.span("SPAN", "worker-c", None, after_ms=20, lasts_ms=300)
    third.parent, third.app_root = f"{pen.chance.getrandbits(64):016x}", True


def skewed(pen: Pen) -> None:
    """Clocks disagree: a child starts before its root, another one ends before it starts."""
    root = pen.span("SPAN", "gateway", None, after_ms=200, lasts_ms=1000)
    pen.generation(root, after_ms=-150)
    pen.span("TOOL", "clockless", root, after_ms=10, lasts_ms=-35)


def unfinished(pen: Pen) -> None:
    """A span without end: the application crashed, or is still at it."""
    root = pen.span("SPAN", "long-poll", None, after_ms=0, lasts_ms=0)
    root.end_ms = root.start_ms if pen.draft.direct else None
    pen.span("TOOL", "http", root, after_ms=5, lasts_ms=80)


def empty(_pen: Pen) -> None:
    """A trace without observations: on the dual path its `t-` row stands alone."""


def burst(pen: Pen) -> None:
    """A batch import: many rows with one and the same start time."""
    root = pen.span("CHAIN", "import", None, after_ms=0, lasts_ms=10)
    for number in range(pen.chance.randrange(8, 20)):
        pen.span("TOOL", f"row-{number}", root, after_ms=0, lasts_ms=3, own={"long": "x" * 260, "nested": _NESTED})


Shape = Callable[[Pen], None]
SHAPES: tuple[tuple[Shape, int], ...] = (
    (chat, 40),
    (agent, 22),
    (failing, 7),
    (nightly, 3),
    (orphans, 3),
    (two_roots, 4),
    (skewed, 4),
    (unfinished, 4),
    (empty, 3),
    (burst, 3),
)
"""Each kind of trace with its weight."""

_NESTED = {"a": {"b": [1, 2.5, "drei"]}, "text": "y" * 240}


def _tool(pen: Pen, step: Span) -> None:
    tool = pen.span("TOOL", pen.chance.choice(("calculator", "web", "sql")), step, after_ms=1500, lasts_ms=600)
    tool.input, tool.output = '{"q": "6*7"}', "42"
    if pen.chance.random() < 0.15:
        tool.level, tool.status = "WARNING", "slow"


def model_columns(chance: random.Random, model: Model) -> dict[str, Any]:
    """The model columns of a generation."""
    return {
        "model": model.name,
        "internalModelId": model.id or "",
        "modelId": model.id,
        "inputPrice": model.input_price,
        "outputPrice": model.output_price,
        "usagePricingTierId": model.tier,
        "usagePricingTierName": None if model.tier is None else "Standard",
        "modelParameters": chance.choice(({"temperature": 0.7, "max_tokens": 256}, {"temperature": 1}, {})),
    }


def _usage(chance: random.Random, model: Model, kind: str, *, absurd: bool) -> tuple[dict[str, int], dict[str, float]]:
    sent, received = chance.randrange(1, 4000), 0 if kind == "EMBEDDING" else chance.randrange(1, 900)
    usage = {"input": sent, "output": received, "total": sent + received}
    if kind == "EMBEDDING":
        usage = {"input": sent, "total": sent}
    elif chance.random() < 0.25:
        cached = chance.randrange(1, 2000)
        usage = {**usage, "input_cached_tokens": cached, "total": usage["total"] + cached}
    elif chance.random() < 0.01 and absurd:
        usage = {"input": 3_000_000_000, "output": 1, "total": 3_000_000_001}
    return usage, _cost(chance, model, usage)


def _cost(chance: random.Random, model: Model, usage: dict[str, int]) -> dict[str, float]:
    if model.id is None:
        # Unknown models have no price; some clients send what they paid, not always with a total.
        return chance.choice(({}, {}, {"input": 0.001, "output": 0.0025}, {"total": 0.0, "input": 0.0}))
    cost = {
        key: round(usage[key] * float(price), 12)
        for key, price in (("input", model.input_price), ("output", model.output_price))
        if price is not None and key in usage
    }
    return {**cost, "total": round(sum(cost.values()), 12)}
