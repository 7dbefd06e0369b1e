"""The parts of one running Mixpanel stand-in: credentials, clock, store, rate windows."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Mapping, Sequence

from starlette.requests import Request

from lf_dagster.simulators.mixpanel.settings import HOUR, MINUTE, Behaviour, Limits, ServiceAccount
from lf_dagster.simulators.mixpanel.store import MixpanelStore
from lf_dagster.simulators.rates import RollingWindow


class MixpanelState:
    """Shared by all handlers of one application (`app.state.standin`); `behaviour` may be swapped at run time."""

    def __init__(
        self,
        *,
        tokens: Mapping[str, int],
        service_accounts: Sequence[ServiceAccount],
        clock: Callable[[], float],
        limits: Limits,
        behaviour: Behaviour,
        store: MixpanelStore,
    ) -> None:
        self.tokens = dict(tokens)
        self.service_accounts = list(service_accounts)
        self.clock = clock
        self.limits = limits
        self.behaviour = behaviour
        self.store = store
        self._windows: dict[tuple[str, int], RollingWindow] = {}

    @property
    def now_ms(self) -> int:
        return int(self.clock() * 1000)

    def reset(self) -> None:
        """Forget stored data and spent rate budgets; credentials stay."""
        self._windows.clear()
        self.store.reset()

    def import_project(self, request: Request, project_id: str | None) -> int | None:
        """Project that the credentials of an /import may write to (contract section 2), or None for a 401."""
        user, password = basic_credentials(request)
        if user is None:
            return None
        if project_id is None:
            return self.tokens.get(user) if password == "" else None
        account = self.service_account(request, project_id)
        if account is not None:
            return int(project_id) if account.role in {"owner", "admin"} else None
        owned = self.behaviour.token_with_project_id and password == "" and str(self.tokens.get(user)) == project_id
        return int(project_id) if owned else None

    def service_account(self, request: Request, project_id: str | None) -> ServiceAccount | None:
        """The service account that calls, when it belongs to the project."""
        user, password = basic_credentials(request)
        for account in self.service_accounts:
            known = (account.username, account.secret) == (user, password)
            if known and project_id in {str(owned) for owned in account.project_ids}:
                return account
        return None

    def import_allowed(self, project_id: int, events: int, size: int) -> bool:
        """Charge one /import request to the project's rolling minute, unless it would overflow."""
        by_events = self._window("events", project_id, self.limits.events_per_minute, MINUTE)
        by_bytes = self._window("bytes", project_id, self.limits.bytes_per_minute, MINUTE)
        return by_events.fits(events) and by_bytes.take(size) and by_events.take(events)

    def export_wait(self, project_id: int) -> int | None:
        """Charge one export; seconds to wait when over the quota, else None."""
        hourly = self._window("exports", project_id, self.limits.exports_per_hour, HOUR)
        burst = self._window("export burst", project_id, self.limits.exports_per_second, 1.0)
        for window in (hourly, burst):
            if not window.fits():
                return math.ceil(window.wait_seconds())
        return None if hourly.take() and burst.take() else 1

    def query_allowed(self, project_id: int) -> bool:
        return self._window("queries", project_id, self.limits.queries_per_hour, HOUR).take()

    def schemas_allowed(self, project_id: int, entries: int) -> bool:
        requests = self._window("schemas", project_id, self.limits.schema_requests_per_minute, MINUTE)
        entities = self._window("entities", project_id, self.limits.schema_entries_per_minute, MINUTE)
        return requests.take() and entities.take(entries)

    def _window(self, name: str, project_id: int, limit: float, seconds: float) -> RollingWindow:
        return self._windows.setdefault((name, project_id), RollingWindow(limit, seconds, self.clock))


def basic_credentials(request: Request) -> tuple[str | None, str]:
    """User and password of HTTP Basic; (None, "") without or with an unreadable header."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None, ""
    try:
        user, colon, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None, ""
    return (user, password) if colon else (None, "")


def state_of(request: Request) -> MixpanelState:
    """The stand-in behind a request."""
    return request.app.state.standin
