"""Evidence bundles for compliance: `/v1/compliance/bundles`."""

from base64 import b64encode
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Response
from pydantic import Field

from api.compliance.evidence import Asked, EvidenceDesk
from api.http.access import STAFF_RESPONSES, Principal
from api.http.application import problem_responses
from api.http.idempotency import Key
from api.http.models import ApiModel
from domain.errors import ErrorCode
from domain.evidence_bundles import EvidenceReason, PublicKeys

_BUNDLE: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
        "description": "The bundle, for `comitia verify bundle`.",
    }
}
_ERRORS: Final = problem_responses(
    ErrorCode.CASE_NOT_FOUND,
    ErrorCode.CASE_STAGE,
    ErrorCode.NOT_SEALED_YET,
    ErrorCode.IDEMPOTENCY_KEY_USED,
    ErrorCode.CELL_UNAVAILABLE,
    ErrorCode.DIRECTORY_UNAVAILABLE,
    ErrorCode.WORKFLOWS_UNAVAILABLE,
    ErrorCode.OBJECTS_UNAVAILABLE,
    ErrorCode.KEY_UNAVAILABLE,
    ErrorCode.AUDIT_LOG_UNAVAILABLE,
    ErrorCode.ARCHIVE_CONTRADICTED,
    ErrorCode.AUDIT_LOG_CONTRADICTED,
    ErrorCode.RECORD_CONTRADICTED,
)


class BundleOrder(ApiModel):
    """Of which case, and why."""

    case_id: str = Field(max_length=64)
    reason: EvidenceReason = Field(strict=False)


class BundleKeyBody(ApiModel):
    """A public key that bundles were or are signed with."""

    key_id: str
    public_key: str = Field(description="Ed25519, 32 bytes in hexadecimal.")


class BundleKeysBody(ApiModel):
    """What checks a bundle without us."""

    keys: tuple[BundleKeyBody, ...] = Field(strict=False)
    verifier_keys: tuple[str, ...] = Field(strict=False, description="Of audit logs, as for C2SP signed notes.")


def evidence_routes(
    desk: EvidenceDesk,
    keys: Callable[[], Awaitable[PublicKeys]],
    officers: Callable[..., Awaitable[Principal]],
) -> APIRouter:
    """Return the routes; `officers` lets in who may take evidence away."""
    router = APIRouter(prefix="/v1/compliance", tags=["Evidence"], responses={**STAFF_RESPONSES})
    Officer = Annotated[Principal, Depends(officers)]  # noqa: N806 - a type

    @router.post(
        "/bundles",
        summary="Export the evidence of one case",
        response_class=Response,
        responses={**_BUNDLE, **_ERRORS},
    )
    async def export(body: BundleOrder, officer: Officer, key: Key) -> Response:
        """Answer with the signed bundle of a case, or of a vote by its submission id, after its audit entry.

        Of a case that is open the bundle says so, and has what has happened by now.
        """
        content = await desk.export(Asked(body.case_id, body.reason, officer.actor, key=key))
        headers = {
            "Content-Disposition": f'attachment; filename="{body.case_id}.zip"',
            "Repr-Digest": f"sha-256=:{b64encode(sha256(content).digest()).decode('ascii')}:",
            "Cache-Control": "no-store",
        }
        return Response(content, media_type="application/zip", headers=headers)

    @router.get(
        "/bundle-keys", summary="Read the keys of bundles", responses=problem_responses(ErrorCode.KEY_UNAVAILABLE)
    )
    async def read_keys(_officer: Officer) -> BundleKeysBody:
        """Read every public key that bundles and tree heads were or are signed with: `comitia verify bundle --keys`."""
        return BundleKeysBody.model_validate((await keys()).document())

    return router
