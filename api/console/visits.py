"""Who looks at a page, and what the page has to know of its place."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, TypeVar
from urllib.parse import parse_qsl, urlsplit

from api.http.access import Principal
from domain.console import SessionKind
from domain.errors import DomainError, ErrorCode

FIELDS_MAX: Final = 20
THUMBPRINT: Final = re.compile(r"[A-Za-z0-9_-]{43}")  # of a key (RFC 7638)
_KEY: Final = re.compile(r"[A-Za-z0-9_-]{16,64}")
_PLACE: Final = re.compile(r"(/[A-Za-z0-9_.~%-]+)+(\?[A-Za-z0-9_.~%=&-]*)?")

E = TypeVar("E", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Site:
    """Where the console of a service is: `base` is the path of its pages, below `public_url`.

    `links` are the consoles of other services, by their names; those with `sessions` of the same kind share them.
    """

    public_url: str
    base: str
    links: Mapping[str, str] = field(default_factory=dict)
    sessions: SessionKind = SessionKind.IDENTITY

    @property
    def origin(self) -> str:
        """The origin of its pages, as browsers send it."""
        parts = urlsplit(self.public_url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def others(self) -> Mapping[str, str]:
        """The links that lead to another console than this one."""
        own = f"{self.public_url.rstrip('/')}{self.base}"
        return {name: address for name, address in self.links.items() if address != own}

    @property
    def is_secure(self) -> bool:
        """Tell whether it is reached over TLS."""
        return self.public_url.startswith("https://")

    def place(self, wanted: str) -> str:
        """Return the page of ours that somebody wants to go on to, and the first page for anything else."""
        is_ours = wanted == self.base or wanted.startswith((f"{self.base}/", f"{self.base}?"))
        return wanted if is_ours and _PLACE.fullmatch(wanted) and "/." not in wanted else self.base


@dataclass(frozen=True, slots=True)
class Visit:
    """A request of somebody who is signed in, `at` by the clock of sessions.

    `token` is what forms of this session carry, `form` what one said.
    """

    principal: Principal
    session_id: str
    at: datetime
    token: str = field(repr=False)
    form: Mapping[str, str] = field(default_factory=dict, repr=False)

    def has_role(self, *roles: str) -> bool:
        """Tell whether they have any of these roles."""
        return any(role in self.principal.roles for role in roles)

    def value(self, name: str) -> str:
        """Return a field of the form. Raises DomainError `malformed_request` where it is missing."""
        found = self.form.get(name, "")
        if not found:
            raise DomainError(ErrorCode.MALFORMED_REQUEST, f"{name}: is missing")
        return found


class NotSignedInError(Exception):
    """Nobody is signed in; `has_ended` where somebody was, `lacks_proof` where a browser did not show its key."""

    def __init__(self, *, has_ended: bool = False, lacks_proof: bool = False) -> None:
        super().__init__()
        self.has_ended = has_ended
        self.lacks_proof = lacks_proof


def form_of(body: bytes) -> dict[str, str]:
    """Return the fields of a form, each of which comes once. Raises DomainError `malformed_request`."""
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, strict_parsing=bool(body), errors="strict", max_num_fields=FIELDS_MAX
        )
    except ValueError as error:
        raise DomainError(ErrorCode.MALFORMED_REQUEST, "not a form") from error
    fields = {name: value.strip() for name, value in pairs}
    if len(fields) != len(pairs) or any("\x00" in value for value in fields.values()):
        raise DomainError(ErrorCode.MALFORMED_REQUEST, "not a form of ours")
    return fields


def choice(kind: type[E], visit: Visit, name: str) -> E:
    """Return what a form chose of some words. Raises DomainError `malformed_request`."""
    try:
        return kind(visit.value(name))
    except ValueError as error:
        raise DomainError(ErrorCode.MALFORMED_REQUEST, f"{name}: none of those that there are") from error


def instant_of(text: str, name: str) -> datetime | None:
    """Return an instant of a form, UTC where it does not say otherwise, or None for an empty field.

    Raises DomainError `malformed_request`.
    """
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise DomainError(ErrorCode.MALFORMED_REQUEST, f"{name}: not an instant") from error


def key_of(visit: Visit) -> str:
    """Return the key that a form came with. Raises DomainError `malformed_request`."""
    key = visit.value("key")
    if _KEY.fullmatch(key) is None:
        raise DomainError(ErrorCode.MALFORMED_REQUEST, "key: not one of ours")
    return key
