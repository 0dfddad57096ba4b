"""Pages of the search: entries of an audit log by what they say, each of which leads to its proof."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import Depends, Query, Response

from api.compliance.pages import number
from api.compliance.searching import FoundEntry, SearchDesk
from api.console.opening import Console
from api.console.visits import Visit, instant_of
from api.http.models import QueryText
from domain.audit import AuditKind
from domain.errors import DomainError, ErrorCode
from domain.log_search import Sought
from domain.tokens import Role

_SHOWN: Final = 50  # entries of a page
_KINDS: Final = sorted(kind.value for kind in AuditKind if kind is not AuditKind.VOTES_RECORDED)
_Words = Annotated[QueryText, Query(max_length=200)]
_Short = Annotated[QueryText, Query(max_length=40)]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the form of the search says, as it was filled in; what is empty takes anything."""

    log: _Short = ""
    subject: _Words = ""
    kind: _Words = ""
    actor: _Words = ""
    since: Annotated[QueryText, Query(alias="from", max_length=40)] = ""
    until: Annotated[QueryText, Query(alias="to", max_length=40)] = ""
    before: _Short = ""

    def sought(self) -> Sought:
        """Return it as the search takes it. Raises DomainError `malformed_request`."""
        if self.kind and self.kind not in _KINDS:
            raise DomainError(ErrorCode.MALFORMED_REQUEST, "kind: none of those that there are")
        since, until = instant_of(self.since, "from"), instant_of(self.until, "to")
        return Sought(self.subject or None, self.kind or None, self.actor or None, since, until)

    def older(self, cursor: str) -> str:
        """Return the query of the page behind a place."""
        told = {"subject": self.subject, "kind": self.kind, "actor": self.actor, "from": self.since, "to": self.until}
        given = {name: value for name, value in told.items() if value}
        return urlencode({"log": self.log, **given, "before": cursor})


@dataclass(frozen=True, slots=True)
class Row:
    """An entry as a line of the page; `said` is its body."""

    index: int
    at: datetime
    kind: str
    said: Mapping[str, Any]

    @classmethod
    def of(cls, found: FoundEntry) -> "Row":
        """Return an entry as it is shown."""
        entry = found.entry
        return cls(found.index, datetime.fromisoformat(entry["at"]), entry["kind"], entry["body"])


class SearchPages:
    """What the pages are made of."""

    def __init__(self, console: Console, search: SearchDesk) -> None:
        self._pages = console.pages
        self._search = search

    async def found(self, visit: Visit, wanted: Wanted) -> Response:
        """Return the form, and what it finds once it names a log."""
        logs, page, more = self._search.logs, None, ""
        if wanted.log:
            before = number(wanted.before, "before") if wanted.before else None
            page = await self._search.find(wanted.log, wanted.sought(), before, _SHOWN)
            more = "" if page.before is None else wanted.older(str(page.before))
        rows = [] if page is None else list(map(Row.of, page.entries))
        return self._pages.page(
            "search.html", visit, logs=logs, kinds=_KINDS, asked=wanted, page=page, rows=rows, more=more
        )


def add_search_pages(console: Console, made: SearchPages) -> None:
    """Add the routes of these pages to the console."""
    Reader = Annotated[Visit, Depends(console.door.require(Role.COMPLIANCE, Role.AUDITOR))]  # noqa: N806 - a type

    @console.router.get("/search")
    async def found(visit: Reader, wanted: Annotated[Wanted, Depends()]) -> Response:
        return await made.found(visit, wanted)
