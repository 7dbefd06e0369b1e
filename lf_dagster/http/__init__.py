"""One HTTP machinery for every other side: timeouts, retries, `Retry-After`, budgets, redaction, counting.

It knows HTTP and nothing about Langfuse, Mixpanel or PostHog. `HttpClient.request` returns a `Response` for every
final answer, 4xx included, because what those mean is the caller's to say; it raises only when there is no usable
answer (`RateLimited`, `ServiceUnavailable`, `RequestTooLarge`) or when a setting must change (`ConfigError`).
"""

from lf_dagster.http.budget import Budget
from lf_dagster.http.client import Cancelled, HttpClient
from lf_dagster.http.redaction import Redactor, basic_auth, redact
from lf_dagster.http.response import HttpStats, Response
from lf_dagster.http.retry import DEFAULT_RETRY_STATUSES, RetryPolicy, retry_after_seconds

__all__ = [
    "DEFAULT_RETRY_STATUSES",
    "Budget",
    "Cancelled",
    "HttpClient",
    "HttpStats",
    "Redactor",
    "Response",
    "RetryPolicy",
    "basic_auth",
    "redact",
    "retry_after_seconds",
]
