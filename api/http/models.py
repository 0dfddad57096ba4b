"""The base of every request and response body: camelCase on the wire, unknown fields and wrong types refused."""

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel


def _strict_text(value: Any) -> Any:
    """Refuse what PostgreSQL cannot keep or UTF-8 cannot carry: NUL and lone surrogates."""
    if isinstance(value, str) and ("\x00" in value or any("\ud800" <= character <= "\udfff" for character in value)):
        raise ValueError("holds characters that cannot be stored")
    return value


def _in_utc(moment: datetime) -> datetime:
    """Refuse what UTC has no year for: the first and the last hours of the calendar, some way from Greenwich."""
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("no such time in UTC") from error


Timestamp = Annotated[AwareDatetime, AfterValidator(_in_utc), Field(strict=False, description="RFC 3339, UTC")]
"""A time in JSON is a string, so this one field type is read leniently."""

QueryText = Annotated[str, BeforeValidator(_strict_text)]
"""Text of a query or path parameter."""


class ApiModel(BaseModel):
    """A body. Strict: a number is not a string, a string is not a boolean.

    JSON has neither times, tuples nor enumerations: times use `Timestamp`, the others `Field(strict=False)`, which
    leaves their items strict.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        strict=True,
        frozen=True,
        ser_json_bytes="base64",
        val_json_bytes="base64",
    )

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for name, value in data.items():
                _strict_text(name)
                _strict_text(value)
                if isinstance(value, list):
                    for item in value:
                        _strict_text(item)
        return data
