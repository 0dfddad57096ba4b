"""Answers with a file of the object store, its digest beside it."""

from base64 import b64encode
from collections.abc import AsyncIterator

from starlette.responses import Response, StreamingResponse

from domain.contracts.exports import StoredObject
from domain.survey_ports import ObjectStore


async def file_response(
    stored: StoredObject, objects: ObjectStore, *, media_type: str, filename: str, caching: str | None = None
) -> Response:
    """Return a file as a response, with `Repr-Digest` (RFC 9530).

    Raises:
        DomainError: `objects_unavailable`: a file that cannot be opened is a 503, not half an answer.
    """
    pieces = objects.read(stored.name)
    first = await anext(pieces, b"")

    async def body() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    headers = {
        "Content-Length": str(stored.size_bytes),
        "Content-Disposition": f'attachment; filename="{filename}"',
        "Repr-Digest": f"sha-256=:{b64encode(stored.sha256).decode('ascii')}:",
    }
    if caching is not None:
        headers["Cache-Control"] = caching
    return StreamingResponse(body(), media_type=media_type, headers=headers)
