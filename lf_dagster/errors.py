"""Every error that lf_dagster raises on purpose, in one tree ordered by what to do about it.

    LfDagsterError
    ├── ConfigError               a setting is wrong or missing: change it, then run again
    ├── FatalError                the other side says no; the same request will fail again
    │   ├── AuthenticationError       401/403: credentials
    │   ├── ReadPathUnavailable       404/405/410/501 or HTML where JSON is due: wrong API generation
    │   ├── RequestRejected           400 and other final 4xx answers
    │   └── ProtocolError             an answer that breaks the contract (no JSON, repeated cursor)
    └── RetryableError            a later attempt may well succeed
        ├── RateLimited               429 after all waiting was used up
        ├── ServiceUnavailable        5xx, timeouts, cut connections after all retries
        ├── RequestTooLarge           413/422/524: ask for less at once
        └── WarehouseLocked           another process holds the DuckDB file

Errors carry their facts as attributes, survive pickling (they cross process boundaries in Dagster) and
render as one readable text: what failed, where, what to do. Secrets never enter them: `lf_dagster.http`
masks every text that it puts into an error.
"""

from __future__ import annotations

from typing import Any


class LfDagsterError(Exception):
    """Root of the tree.

    `message` says what failed, `hint` what to do, `context` where (project, hour, endpoint, status ...).
    """

    def __init__(self, message: str, *, hint: str | None = None, **context: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.context = {key: value for key, value in context.items() if value is not None}

    def __str__(self) -> str:
        where = ", ".join(f"{key}={value}" for key, value in self.context.items())
        text = f"{self.message} [{where}]" if where else self.message
        return f"{text}\n{self.hint}" if self.hint else text

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self.hint, self.context))

    def with_context(self, **context: Any) -> LfDagsterError:
        """The same error with more facts about where it happened; facts already known win."""
        self.context = {**{k: v for k, v in context.items() if v is not None}, **self.context}
        return self


def _rebuild(kind: type[LfDagsterError], message: str, hint: str | None, context: dict[str, Any]) -> LfDagsterError:
    return kind(message, hint=hint, **context)


class ConfigError(LfDagsterError, ValueError):
    """A setting is missing or wrong."""


class FatalError(LfDagsterError):
    """Repeating the same request cannot help."""


class AuthenticationError(FatalError):
    """The other side refused the credentials (401, 403)."""


class ReadPathUnavailable(FatalError):
    """This Langfuse does not serve the API generation that was asked for."""


class RequestRejected(FatalError):
    """A final 4xx answer."""


class ProtocolError(FatalError):
    """An answer that contradicts the contract."""


class RetryableError(LfDagsterError):
    """A later attempt may succeed; `retry_after` is the wait in seconds that the other side asked for."""

    @property
    def retry_after(self) -> float | None:
        return self.context.get("retry_after")


class RateLimited(RetryableError):
    """Still 429 after every wait that the retry policy allows."""


class ServiceUnavailable(RetryableError):
    """Server fault, timeout or cut connection, after all retries."""


class RequestTooLarge(RetryableError):
    """The request asked for, or carried, too much at once (413, 422, 524, timeouts while reading)."""


class WarehouseLocked(RetryableError):
    """Another process holds the DuckDB file."""
