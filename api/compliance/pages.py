"""Pages of compliance: replay one execution, take the evidence of a case, read an entry of a log with its proof."""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import Depends, Header, Query, Response

from api.compliance.bodies import EntryBody, LogBody
from api.compliance.evidence import Asked, EvidenceDesk
from api.compliance.logs import LogDesk
from api.compliance.replays import ReplayDesk, said_of
from api.console.opening import Console
from api.console.visits import Visit, choice, key_of
from api.http.models import QueryText
from domain.errors import DomainError, ErrorCode
from domain.evidence_bundles import EvidenceReason
from domain.tokens import Role

_WORKFLOW: Final = re.compile(r"[a-z0-9-]{1,64}(/[A-Za-z0-9_.-]{1,128}){1,5}")
_RUN: Final = re.compile(r"([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})?")
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
        return self._page(visit, logs=logs)

    async def replay(self, visit: Visit, *, is_part: bool) -> Response:
        """Return the verdict on one execution: as a part of the page for who has its form there."""
        workflow, run = visit.value("workflow"), visit.form.get("run", "")
        if not _WORKFLOW.fullmatch(workflow) or not _RUN.fullmatch(run):
            raise DomainError(ErrorCode.MALFORMED_REQUEST, "not the id of a workflow and of a run of it")
        verdict = await self._replays.judge(workflow, run)
        shown = self._pages.part("verdict.html", visit, verdict=verdict.verdict.value, said=said_of(verdict))
        if is_part:
            return Response(shown, media_type="text/html")
        return self._page(visit, verdict=shown, workflow=workflow, run=run)

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

    def _page(self, visit: Visit, **values: Any) -> Response:
        shown = {"logs": None, "verdict": None, "workflow": "", "run": "", "reasons": sorted(EvidenceReason)}
        return self._pages.page("compliance.html", visit, **{**shown, **values})


def add_compliance_pages(console: Console, made: CompliancePages) -> None:
    """Add the routes of these pages to the console."""
    router, door = console.router, console.door
    Officer = Annotated[Visit, Depends(door.require(Role.COMPLIANCE))]  # noqa: N806 - types
    Reader = Annotated[Visit, Depends(door.require(Role.COMPLIANCE, Role.AUDITOR))]  # noqa: N806

    @router.get("")
    async def first(visit: Reader) -> Response:
        return await made.first(visit)

    @router.post("/replays")
    async def replay(visit: Officer, hx_request: Annotated[str, Header()] = "") -> Response:
        return await made.replay(visit, is_part=bool(hx_request))

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
