"""Query parameters by the rules of the server's schemas: every broken one becomes an issue (contract 2.3, 4.1, 5)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Sequence
from typing import Any
from urllib.parse import parse_qsl

from lf_dagster.simulators.langfuse import errors
from lf_dagster.simulators.langfuse.errors import ApiError, Issue
from lf_dagster.simulators.langfuse.values import epoch_ms, loose_epoch_ms


class Query:
    """The parameters of one request. Readers note issues; `check()` turns them into the 400 answer."""

    def __init__(self, query_string: bytes) -> None:
        self.values: dict[str, str | list[str]] = {}
        self.issues: list[Issue] = []
        for name, value in parse_qsl(query_string.decode("latin-1"), keep_blank_values=True):
            self._append(name, value)

    def check(self) -> None:
        """Raises ApiError (400) when any parameter was wrong."""
        if self.issues:
            raise ApiError.validation(self.issues)

    def text(self, name: str) -> str | None:
        """A scalar as sent; None when absent. A repeated one is an issue."""
        value = self.values.get(name)
        if isinstance(value, list):
            self.issues.append(errors.invalid_type("string", value, [name]))
            return None
        return value

    def filled(self, name: str) -> str | None:
        """Like `text`, with the empty text counting as absent."""
        return self.text(name) or None

    def choice(self, name: str, options: Sequence[str]) -> str | None:
        """One of the options; the empty text is an issue too."""
        value = self.values.get(name)
        if value is None or (isinstance(value, str) and value in options):
            return value
        self.issues.append(errors.invalid_value(options, [name]))
        return None

    def flag(self, name: str) -> bool | None:
        """`true` or `false`."""
        value = self.choice(name, ("true", "false"))
        return None if value is None else value == "true"

    def csv(self, name: str) -> list[str]:
        """A comma separated list, or a repeated parameter; empty entries are dropped."""
        value = self.values.get(name, [])
        texts = value if isinstance(value, list) else [value]
        return [entry.strip() for text in texts for entry in text.split(",") if entry.strip()]

    def datetime(self, name: str) -> int | None:
        """A strict ISO datetime in epoch milliseconds."""
        value = self.text(name)
        if value is None:
            return None
        return self._converted(name, value, epoch_ms, errors.invalid_datetime)

    def coerced_date(self, name: str) -> int | None:
        """A date in any form JavaScript reads; empty counts as absent (v3/scores)."""
        value = self.filled(name)
        if value is None:
            return None
        return self._converted(name, value, loose_epoch_ms, errors.invalid_date)

    def number(
        self, name: str, *, default: int, minimum: int | None, maximum: int | None = None, exclusive: bool = False
    ) -> float:
        """A number coerced as JavaScript does: the empty text is 0. `exclusive` forbids the minimum itself."""
        text = self.text(name)
        if text is None:
            return default
        value = _js_number(text)
        if math.isnan(value):
            self.issues.append(errors.not_a_number([name]))
        elif minimum is not None and (value <= minimum if exclusive else value < minimum):
            self.issues.append(errors.too_small(minimum, [name], inclusive=not exclusive))
        elif maximum is not None and value > maximum:
            self.issues.append(errors.too_big(maximum, [name]))
        return value

    def json_list(self, name: str) -> list[Any]:
        """A JSON array. Raises ApiError (400) at once for what is not JSON, as the server does."""
        text = self.filled(name)
        if text is None:
            return []
        try:
            value = json.loads(text)
        except ValueError as error:
            raise errors.invalid_request(f"Invalid JSON in {name} parameter") from error
        if not isinstance(value, list):
            self.issues.append(errors.invalid_type("array", value, [name]))
            return []
        return value

    def only(self, known: Collection[str]) -> None:
        """Notes parameters that the strict schemas do not know."""
        unknown = [name for name in self.values if name not in known]
        if unknown:
            self.issues.append(errors.unrecognized_keys(unknown))

    def _append(self, name: str, value: str) -> None:
        before = self.values.get(name)
        if before is None:
            self.values[name] = value
        else:
            self.values[name] = [*(before if isinstance(before, list) else [before]), value]

    def _converted(
        self, name: str, value: str, convert: Callable[[str], int], issue: Callable[[list[Any]], Issue]
    ) -> int | None:
        try:
            return convert(value)
        except ValueError:
            self.issues.append(issue([name]))
            return None


def whole_limit(value: float) -> int:
    """The limit as the database takes it. Raises ApiError (500) for a fraction, which only the database refuses."""
    if value != int(value):
        raise errors.internal(f"Value {value} cannot be parsed as Int32 for query parameter 'limit'")
    return int(value)


def _js_number(text: str) -> float:
    stripped = text.strip()
    if not stripped:
        return 0
    try:
        return (
            float(stripped) if "_" not in stripped and stripped.lower() not in {"nan", "inf", "infinity"} else math.nan
        )
    except ValueError:
        return math.nan
