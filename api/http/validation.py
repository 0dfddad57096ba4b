"""What is wrong with a request, said without repeating any of its values."""

from collections.abc import Sequence
from typing import Any, Final

MAX_ERRORS: Final = 20
MAX_NAME: Final = 64
# Kinds whose text can quote what was sent; the code says enough
_QUOTING: Final = frozenset({"value_error", "assertion_error", "union_tag_invalid", "json_invalid", "url_parsing"})


def describe_errors(errors: Sequence[Any]) -> list[dict[str, str]]:
    """Return validation errors with JSON pointers (RFC 6901) into the body, or parameter names."""
    return [_describe(error) for error in errors[:MAX_ERRORS]]


def _describe(error: dict[str, Any]) -> dict[str, str]:
    place, *path = error["loc"]
    kind = str(error["type"])
    found = {"code": kind, "detail": "Not a valid value" if kind in _QUOTING else str(error["msg"])}
    if kind == "json_invalid":
        return {"pointer": "#", "code": kind, "detail": "Not valid JSON"}
    if place == "body":
        return {"pointer": "#" + "".join(f"/{_escape(part)}" for part in path), **found}
    return {"parameter": _escape(path[0]) if path else "", "in": str(place), **found}


def _escape(part: Any) -> str:
    text = str(part)[:MAX_NAME].encode("utf-8", "replace").decode("utf-8")
    return text.replace("~", "~0").replace("/", "~1")
