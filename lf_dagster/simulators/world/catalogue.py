"""What the generated world is made of: models with prices, people, prompts, environments, texts."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Model:
    """A model that Langfuse knows (with an id and prices in USD per token) or does not know (no id)."""

    name: str
    id: str | None = None
    input_price: str | None = None
    output_price: str | None = None

    @property
    def tier(self) -> str | None:
        """The pricing tier that rows of this model carry."""
        return None if self.id is None else f"{self.id}_tier_default"


GPT_4O = Model("gpt-4o", "b9854a5c92dc496b997d99d20", "0.0000025", "0.00001")
EMBEDDING = Model("text-embedding-3-small", "clxt0n0m60000pumz1j5b7zsf", "2e-8", None)
MODELS = (
    GPT_4O,
    Model("gpt-4o-mini", "clyrjp56f0000t0mzapoocd7u", "1.5e-7", "6e-7"),
    Model("claude-3-5-sonnet-20241022", "cm2krz1uf000208jjg5653iud", "0.000003", "0.000015"),
    Model("my-local-llm"),
    Model("azure/文心-4.0"),
)

ENVIRONMENTS = ("production", "production", "production", "staging", "default")
INTERNAL_ENVIRONMENTS = (
    "langfuse-prompt-experiment",
    "langfuse-llm-as-a-judge",
    "langfuse-code-eval",
    "langfuse-evaluation",
    "sdk-experiment",
)
ANONYMOUS_IDS = ("", "", "anonymous", "null", "0", "None")
ODD_USER_IDS = ("user+tag@example.com", "Zoë Müller/事業部", "id with spaces?&#", "0012345", "1e5")
TAGS = ("beta", "internal", "vip", "a/b:test", "größe", "☃")
RELEASES = ("", "rel-2026.11", "9f2c1ab")
VERSIONS = ("", "v1.0", "v1.1")
PROMPTS = (("prm-answer", "answer", 7), ("prm-summary", "summary", 2))
TRACE_NAMES = ("chat", "summarise", "agent-run", "report ünïcode", "")
TOPICS = (
    "refunds",
    "delivery times",
    "Ärger mit der Rechnung",
    "how to reset a password",
    "事務手続き",
    "emoji 🙂 support",
)
SCORE_COMMENTS = (None, None, "good answer", "zu lang; gekürzt — ok", 'line one\nline "two"')
CATEGORIES = (("great", 1.0), ("ok", 0.5), ("schlecht ☹", 0.0))


@dataclass(frozen=True)
class Person:
    """An end user of the traced application, with the sessions they open."""

    id: str
    sessions: tuple[str, ...]


def people(seed: int, count: int) -> tuple[Person, ...]:
    """The user base: ordinary ids, odd ids, and the placeholders that applications send for anonymous visitors."""
    chance = random.Random(f"people/{seed}")
    ids = [f"user-{number:04d}" for number in range(count)] + list(ODD_USER_IDS) + list(ANONYMOUS_IDS)
    return tuple(Person(user_id, _sessions(chance, user_id)) for user_id in ids)


def _sessions(chance: random.Random, user_id: str) -> tuple[str, ...]:
    number = chance.randrange(1, 4)
    return (
        "",
        *(f"sess-{chance.getrandbits(40):010x}{'/ä' if user_id in ODD_USER_IDS else ''}" for _ in range(number)),
    )
