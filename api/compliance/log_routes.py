"""Audit logs for compliance: `/v1/compliance/logs`."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query, Response

from api.compliance.bodies import ConsistencyBody, EntryBody, LogsBody
from api.compliance.logs import LogDesk
from api.http.access import STAFF_RESPONSES, Principal
from api.http.application import problem_responses
from api.http.models import QueryText
from domain.errors import ErrorCode

_SIZE_MAX: Final = 10**12 - 1  # what the names of tree heads reach to
_ERRORS = problem_responses(
    ErrorCode.NOT_FOUND,
    ErrorCode.OBJECTS_UNAVAILABLE,
    ErrorCode.KEY_UNAVAILABLE,
    ErrorCode.AUDIT_LOG_UNAVAILABLE,
    ErrorCode.AUDIT_LOG_CONTRADICTED,
)
_NOTE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "A C2SP checkpoint"}
}

LogName = Annotated[QueryText, Path(max_length=16, description="A cell, or `catalogue`.")]
Place = Annotated[int, Path(ge=0, le=_SIZE_MAX)]
Size = Annotated[int, Query(ge=0, le=_SIZE_MAX)]


def log_routes(desk: LogDesk, officers: Callable[..., Awaitable[Principal]]) -> APIRouter:
    """Return the routes; `officers` lets in who may read audit logs."""
    router = APIRouter(
        prefix="/v1/compliance/logs",
        tags=["Audit logs"],
        responses={**STAFF_RESPONSES},
        dependencies=[Depends(officers)],
    )

    @router.get("", summary="List the audit logs", responses=_ERRORS)
    async def list_logs() -> LogsBody:
        """List the log of every cell and that of the catalogue, and the keys that check them."""
        return LogsBody.of(await desk.all(), await desk.verifier_keys())

    @router.get(
        "/{log}/checkpoint",
        summary="Read the newest tree head",
        response_class=Response,
        responses={**_NOTE, **_ERRORS},
    )
    async def read_checkpoint(log: LogName) -> Response:
        """Answer with the newest signed tree head, as C2SP tlog-checkpoint has it."""
        return Response(await desk.note(log), media_type="text/plain", headers={"Cache-Control": "no-store"})

    @router.get("/{log}/entries/{index}", summary="Read an entry and its proof", responses=_ERRORS)
    async def read_entry(
        log: LogName,
        index: Place,
        size: Annotated[
            int | None, Query(ge=0, le=_SIZE_MAX, description="Of an earlier tree head; without it, the newest.")
        ] = None,
    ) -> EntryBody:
        """Read an entry as it was sealed, with the proof that it is in the log at this place."""
        return EntryBody.of(log, await desk.entry(log, index, size))

    @router.get("/{log}/consistency", summary="Read that a tree continues an earlier one", responses=_ERRORS)
    async def read_consistency(
        log: LogName, old: Annotated[Size, Query(alias="from")], new: Annotated[Size, Query(alias="to")]
    ) -> ConsistencyBody:
        """Read the proof that the tree of `to` entries, which has a tree head, begins with that of `from`."""
        hashes = await desk.consistency(log, old, new)
        return ConsistencyBody(log=log, old=old, new=new, hashes=tuple(found.hex() for found in hashes))

    return router
