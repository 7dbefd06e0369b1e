"""The error answers of the public API (contract 2.3 and recorded responses)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Issue = dict[str, Any]
"""One zod issue: code, path, message and what belongs to the code."""

_DATETIME_PATTERN = (
    r"/^(?:(?:\d\d[2468][048]|\d\d[13579][26]|\d\d0[48]|[02468][048]00|[13579][26]00)-02-29"
    r"|\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)"
    r"|(?:02)-(?:0[1-9]|1\d|2[0-8])))T(?:(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d+)?)?"
    r"(?:Z|([+-](?:[01]\d|2[0-3]):[0-5]\d)))$/"
)


class ApiError(Exception):
    """An answer other than 200: status, JSON body, extra headers."""

    def __init__(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {body.get('message', '')}")
        self.status = status
        self.body = dict(body)
        self.headers = dict(headers or {})

    @classmethod
    def validation(cls, issues: Sequence[Issue]) -> ApiError:
        """400 of a query schema, with its list of issues."""
        return cls(400, {"message": "Invalid request data", "error": list(issues)})


def invalid_request(message: str) -> ApiError:
    """400 for what passes the schema but makes no sense."""
    return ApiError(400, {"message": message, "error": "InvalidRequestError"})


def not_found(message: str) -> ApiError:
    """404 of a route or entity that is not there, as JSON."""
    return ApiError(404, {"message": message, "error": "LangfuseNotFoundError"})


def events_only() -> ApiError:
    """404 of a legacy route on a deployment that only has the events table; sent before authentication."""
    text = "This endpoint is not available on deployments running in Langfuse v4 events_only mode."
    return ApiError(404, {"message": f"{text} Learn more about Langfuse v4 at: https://langfuse.com/docs/v4"})


def internal(error: str) -> ApiError:
    """500 with the text of the exception."""
    return ApiError(500, {"message": "Internal Server Error", "error": error})


def too_big(maximum: int, path: list[Any]) -> Issue:
    """A number above the maximum, which is allowed itself."""
    message = f"Too big: expected number to be <={maximum}"
    return {
        "origin": "number",
        "code": "too_big",
        "maximum": maximum,
        "inclusive": True,
        "path": path,
        "message": message,
    }


def too_small(minimum: int, path: list[Any], *, inclusive: bool = True) -> Issue:
    """A number below the minimum, or equal to it when that is excluded."""
    message = f"Too small: expected number to be {'>=' if inclusive else '>'}{minimum}"
    issue = {"origin": "number", "code": "too_small", "minimum": minimum, "inclusive": inclusive}
    return {**issue, "path": path, "message": message}


def not_a_number(path: list[Any]) -> Issue:
    """A text that JavaScript cannot read as a number."""
    message = "Invalid input: expected number, received NaN"
    return {"expected": "number", "code": "invalid_type", "received": "NaN", "path": path, "message": message}


def invalid_type(expected: str, value: Any, path: list[Any]) -> Issue:
    """A value of another type; None stands for an absent one."""
    message = f"Invalid input: expected {expected}, received {_type_name(value)}"
    return {"expected": expected, "code": "invalid_type", "path": path, "message": message}


def invalid_datetime(path: list[Any]) -> Issue:
    """A text that is not an ISO datetime with a zone."""
    issue = {"origin": "string", "code": "invalid_format", "format": "datetime", "pattern": _DATETIME_PATTERN}
    return {**issue, "path": path, "message": "Invalid ISO datetime"}


def invalid_date(path: list[Any]) -> Issue:
    """A text that JavaScript cannot read as a date."""
    message = "Invalid input: expected date, received Date"
    return {"expected": "date", "code": "invalid_type", "received": "Invalid Date", "path": path, "message": message}


def invalid_value(values: Sequence[str], path: list[Any]) -> Issue:
    """A text that is none of the options."""
    options = "|".join(f'"{value}"' for value in values)
    message = f"Invalid option: expected one of {options}"
    return {"code": "invalid_value", "values": list(values), "path": path, "message": message}


def unrecognized_keys(keys: Sequence[str]) -> Issue:
    """Parameters that a strict schema does not know."""
    names = ", ".join(f'"{key}"' for key in keys)
    message = f"Unrecognized key{'s' if len(keys) > 1 else ''}: {names}"
    return {"code": "unrecognized_keys", "keys": list(keys), "path": [], "message": message}


def custom(message: str, path: list[Any]) -> Issue:
    """A rule of the endpoint itself."""
    return {"code": "custom", "path": path, "message": message}


def _type_name(value: Any) -> str:
    names: tuple[tuple[type, str], ...] = ((bool, "boolean"), (str, "string"), (list, "array"), (dict, "object"))
    if value is None:
        return "undefined"
    return next((name for kind, name in names if isinstance(value, kind)), "number")
