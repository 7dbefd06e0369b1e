"""What `attributes:` of a component document may say, before templates in it are resolved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, ModelWrapValidatorHandler, PrivateAttr, ValidationError, model_validator
from pydantic_core import InitErrorDetails
from typing_extensions import Self

from lf_dagster.component.schema import with_errors_in_place
from lf_dagster.config import ProjectSettings
from lf_dagster.fields import may_be_secret

_DESTINATIONS = ("mixpanel", "posthog")


class ProjectAttributes(ProjectSettings):
    """What `attributes:` of a `type: lf_dagster.LangfuseProject` document may say."""

    from_environment: bool = Field(
        False,
        description="Fill settings that this file does not give from LANGFUSE_*, MIXPANEL_*, POSTHOG_* and "
        "LF_DAGSTER_* variables. What the file says wins.",
    )
    _given: Mapping[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def given(self) -> Mapping[str, Any]:
        """The attributes as they were written, templates unresolved."""
        return self._given

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return with_errors_in_place(super().model_json_schema(*args, **kwargs))

    @model_validator(mode="wrap")
    @classmethod
    def _templates_wait(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Judges everything but templates, whose values are not known here."""
        if not isinstance(data, Mapping):
            return handler(data)
        found, wrong = cls.model_construct(), _empty_blocks(data)
        try:
            found = handler(data)
        except ValidationError as error:
            wrong += [_details(item) for item in error.errors() if not _is_template(item["input"])]
        if wrong:
            raise ValidationError.from_exception_data(cls.__name__, wrong)
        found._given = dict(data)
        return found


def _empty_blocks(data: Mapping[str, Any]) -> list[InitErrorDetails]:
    """A key without anything is None in YAML, and would turn off what it was meant to turn on."""
    empty = [name for name in _DESTINATIONS if name in data and data[name] is None]
    if data.get("from_environment"):
        return []
    return [
        InitErrorDetails(
            type="value_error",  # Dagster, which adds the lines, knows pydantic's own types alone.
            loc=(name,),
            input=None,
            ctx={"error": ValueError(f"empty: write `{name}: {{}}` for its defaults, or leave it out")},
        )
        for name in empty
    ]


def _is_template(value: Any) -> bool:
    return isinstance(value, str) and "{{" in value


def _details(error: Any) -> InitErrorDetails:
    # Dagster prints these errors with their input.
    shown = "***" if may_be_secret(error) else error["input"]
    return InitErrorDetails(type=error["type"], loc=error["loc"], input=shown, ctx=error.get("ctx", {}))
