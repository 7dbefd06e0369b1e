"""The parts of one running PostHog stand-in, and the rules that both capture protocols share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from starlette.requests import Request

from lf_dagster.simulators.posthog.ai import is_ai, trouble
from lf_dagster.simulators.posthog.private import PrivateStore
from lf_dagster.simulators.posthog.settings import Behaviour, Limits, PlannedResult, Strictness
from lf_dagster.simulators.posthog.store import Arrival, PosthogStore
from lf_dagster.simulators.posthog.timestamps import DAY, utc_date

ILLEGAL_DISTINCT_IDS = frozenset(
    {
        "0", "00000000-0000-0000-0000-000000000000", "[object object]", "anonymous", "anonymous-user", "backend",
        "distinct_id", "distinctid", "email", "false", "guest", "id", "nan", "none", "not_authenticated", "null",
        "system", "true", "undefined", "user",
    }
)  # fmt: skip
_HISTORICAL_AGE = 2 * DAY


class PosthogState:
    """Shared by all handlers of one application (`app.state.standin`).

    `behaviour` and `strictness` may be swapped at run time; `plan` adds V1 results to answer.
    """

    def __init__(
        self,
        *,
        tokens: Mapping[str, int],
        clock: Callable[[], float],
        limits: Limits,
        behaviour: Behaviour,
        strictness: Strictness,
        store: PosthogStore,
        private: PrivateStore,
    ) -> None:
        self.tokens = dict(tokens)
        self.clock = clock
        self.limits = limits
        self.behaviour = behaviour
        self.strictness = strictness
        self.store = store
        self.private = private
        self._lock = threading.Lock()
        self._planned: list[PlannedResult] = []

    @property
    def now(self) -> int:
        """Server clock in epoch microseconds."""
        return int(self.clock() * 1_000_000)

    def reset(self) -> None:
        """Forget stored data and planned results; tokens and keys stay."""
        with self._lock:
            self._planned.clear()
        self.store.reset()
        self.private.reset()

    def plan(self, *results: PlannedResult) -> None:
        """Answer these results on V1; the first that matches an event is used up first."""
        with self._lock:
            self._planned.extend(results)

    def planned(self, uuid: str, event: str) -> PlannedResult | None:
        """Take the planned result for an event, if there is one."""
        with self._lock:
            for planned in self._planned:
                if planned.matches(uuid, event):
                    if planned.times is not None:
                        planned.times -= 1
                    return planned
        return None

    def broken_strictness(
        self, arrivals: Sequence[Arrival], *, historical: bool, has_sent_at: bool, now: int
    ) -> str | None:
        """Which rule beyond the real server's a request breaks, or None."""
        rules = self.strictness
        times = [arrival.time.micros for arrival in arrivals]
        young = [time > now - _HISTORICAL_AGE for time in times]
        broken = {
            "standin: sent_at shifts timestamps": rules.forbid_sent_at and has_sent_at,
            "standin: events of several UTC days in one request": rules.forbid_mixed_days
            and len({utc_date(time) for time in times}) > 1,
            "standin: events younger and older than 48 h in one request": rules.forbid_mixed_classes
            and len(set(young)) > 1,
            "standin: an event without $geoip_disable": rules.require_geoip_disable
            and any(arrival.properties.get("$geoip_disable") is not True for arrival in arrivals),
            "standin: historical_migration with an event younger than 48 h": rules.require_old_history
            and historical
            and any(young),
        }
        found = next((text for text, is_broken in broken.items() if is_broken), None)
        return found or (_wrong_ai_event(arrivals) if rules.check_ai_events else None)


def _wrong_ai_event(arrivals: Sequence[Arrival]) -> str | None:
    for arrival in arrivals:
        if is_ai(arrival.event) and (wrong := trouble(arrival.event, arrival.properties)):
            return f"standin: {arrival.event} {wrong}"
    return None


def token_trouble(token: str) -> str | None:
    """Why a project token is refused by its shape, in the server's words, or None."""
    if not token.strip():
        return "empty"
    if len(token) > 64:
        return "too_long"
    if not token.isascii():
        return "not_ascii"
    if token.startswith("phx_"):
        return "personal_api_key"
    return "null_byte" if "\0" in token else None


def is_illegal_distinct_id(distinct_id: str) -> bool:
    """Whether an id is on the list that switches person processing off, compared without case."""
    return distinct_id.strip().lower() in ILLEGAL_DISTINCT_IDS


def object_of(value: Any) -> dict[str, Any]:
    """The value when it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def state_of(request: Request) -> PosthogState:
    """The stand-in behind a request."""
    return request.app.state.standin
