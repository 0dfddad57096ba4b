"""Pages of compliance: what was replayed, the evidence of a case, an entry of a log with its proof."""

import asyncio
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import Depends, Query, Response

from api.compliance.bodies import EntryBody, LogBody
from api.compliance.evidence import Asked, EvidenceDesk
from api.compliance.logs import LogDesk
from api.compliance.replay_routes import ReplayBody
from api.compliance.replays import ReplayDesk
from api.console.opening import Console
from api.console.visits import Visit, choice, key_of
from api.http.models import QueryText
from domain.contracts.rejudging import DecisionProcess
from domain.errors import DomainError, ErrorCode
from domain.evidence_bundles import EvidenceReason
from domain.replay import ReplayCode
from domain.tokens import Role

_NEWEST: Final = 10  # replays of each cell that the first page names
_NUMBER: Final = re.compile(r"[0-9]{1,12}")
Wanted = Annotated[QueryText, Query(max_length=32)]


class CompliancePages:
    """What the pages are made of."""

    def __init__(self, console: Console, logs: LogDesk, evidence: EvidenceDesk, replays: ReplayDesk) -> None:
        self._pages = console.pages
        self._logs = logs
        self._evidence = evidence
        self._replays = replays

    async def first(self, visit: Visit) -> Response:
        """Return the forms, and how far each log is sealed."""
        try:
            logs = [LogBody.of(log, head) for log, head in await self._logs.all()]
        except DomainError as error:
            if error.code is not ErrorCode.OBJECTS_UNAVAILABLE:
                raise
            logs = []  # a replay needs none
        replays, away = list[ReplayBody](), list[str]()
        if visit.has_role(Role.COMPLIANCE):
            for cell, found in zip(self._replays.cells, await self._newest(), strict=True):
                if found is None:
                    away.append(cell)
                else:
                    replays += found
        return self._pages.page(
            "compliance.html",
            visit,
            logs=logs,
            reasons=sorted(EvidenceReason),
            processes=list(DecisionProcess),
            codes=list(ReplayCode),
            replays=replays,
            away=away,
        )

    async def _newest(self) -> list[list[ReplayBody] | None]:
        """Return the newest replays of each cell, or None for one that is away."""

        async def of(cell: str) -> list[ReplayBody] | None:
            try:
                return [ReplayBody.of(state) for state in await self._replays.newest(cell, None, _NEWEST)]
            except DomainError as error:
                if not error.spec.retryable:
                    raise
                return None

        return await asyncio.gather(*map(of, self._replays.cells))

    async def bundle(self, visit: Visit) -> Response:
        """Return the signed evidence of one case as a file, after the audit entry of that."""
        case_id, reason = visit.value("case"), choice(EvidenceReason, visit, "reason")
        asked = Asked(case_id, reason, visit.principal.actor, key=key_of(visit))
        content = await self._evidence.export(asked)  # which knows no case of another form than ours
        told = {"content-disposition": f'attachment; filename="{case_id}.zip"'}
        return Response(content, media_type="application/zip", headers=told)

    async def entry(self, visit: Visit, log: str, index: str, size: str) -> Response:
        """Return an entry with its proof, under the tree head of `size` entries or under the newest."""
        proved = await self._logs.entry(log, number(index, "index"), number(size, "size") if size else None)
        body = EntryBody.of(log, proved)
        asked = f"log={log}&index={body.index}&size={body.size}"
        return self._pages.page(
            "entry.html",
            visit,
            proved=body,
            entry=_indented(body.entry),
            address=f"{self._pages.site.base}/proof?{asked}",
        )

    async def proof(self, log: str, index: str, size: str) -> Response:
        """Return the proof alone, as C2SP tlog-proof has it, to be kept as a file."""
        proved = await self._logs.entry(log, number(index, "index"), number(size, "size") if size else None)
        name = f"{log}-{proved.proof.index}.tlog-proof"  # `log` is one of ours by now
        told = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(proved.proof.text, media_type="text/plain", headers=told)


def add_compliance_pages(console: Console, made: CompliancePages) -> None:
    """Add the routes of these pages to the console."""
    router, door = console.router, console.door
    Officer = Annotated[Visit, Depends(door.require(Role.COMPLIANCE))]  # noqa: N806 - types
    Reader = Annotated[Visit, Depends(door.require(Role.COMPLIANCE, Role.AUDITOR))]  # noqa: N806

    @router.get("")
    async def first(visit: Reader) -> Response:
        return await made.first(visit)

    @router.post("/bundles")
    async def bundle(visit: Officer) -> Response:
        return await made.bundle(visit)

    @router.get("/entries")
    async def entry(visit: Reader, log: Wanted = "", index: Wanted = "", size: Wanted = "") -> Response:
        return await made.entry(visit, log, index, size)

    @router.get("/proof")
    async def proof(_visit: Reader, log: Wanted = "", index: Wanted = "", size: Wanted = "") -> Response:
        return await made.proof(log, index, size)


def number(text: str, name: str) -> int:
    """Return a number of a form. Raises DomainError `malformed_request`."""
    if _NUMBER.fullmatch(text) is None:
        raise DomainError(ErrorCode.MALFORMED_REQUEST, f"{name}: not a number")
    return int(text)


def _indented(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, indent=2, ensure_ascii=False)
