"""The routes of Sumsub's interface that the sandbox has; paths come undecoded."""

import secrets
import time
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any
from urllib.parse import unquote

import msgspec
from fastapi import APIRouter, Request, Response

from integrations.identity.sumsub.sandbox_access import Access
from integrations.identity.sumsub.sandbox_applicants import Applicant, Applicants
from integrations.identity.sumsub.sandbox_errors import SandboxError

_OK = {"ok": 1}


@dataclass(slots=True)
class SdkTokens:
    """Access tokens of the SDKs, each good for one applicant until it expires."""

    _given: dict[str, tuple[str, float]] = field(default_factory=dict)

    def give(self, applicant: Applicant, ttl_s: float) -> str:
        """Return a new token."""
        token = f"_act-sbx-{secrets.token_hex(16)}"
        self._given[token] = (applicant.id, time.monotonic() + ttl_s)
        return token

    def applicant_id(self, token: str) -> str:
        """Return whose token it is. Raises SandboxError 401 for an unknown or expired one."""
        applicant_id, until = self._given.get(token, ("", 0.0))
        if time.monotonic() >= until:
            raise SandboxError(401, "Access token is unknown or has expired")
        return applicant_id


def vendor_routes(applicants: Applicants, tokens: SdkTokens, access: Access) -> APIRouter:
    """Return the routes below `/resources`."""
    router = APIRouter(prefix="/resources")
    _add_reading(router, applicants)
    _add_opening(router, applicants, tokens)
    _add_changing(router, applicants, access)
    return router


def _add_reading(router: APIRouter, applicants: Applicants) -> None:
    @router.get("/status/api")
    async def health() -> dict[str, int]:
        return _OK

    @router.get("/applicants/-/levels")
    async def levels() -> dict[str, Any]:
        return {"list": {"items": [{"name": name} for name in sorted(applicants.levels)]}}

    @router.get("/applicants/{key}/one")
    async def one(key: str) -> dict[str, Any]:
        prefix = "-;externalUserId="
        if not key.startswith(prefix):
            return applicants.get(key).as_json()
        found = applicants.find(unquote(key.removeprefix(prefix)))
        if found is None:
            raise SandboxError(404, "Applicant not found (anf)")
        return found.as_json()

    @router.get("/applicants/{applicant_id}/status")
    async def status(applicant_id: str) -> dict[str, Any]:
        return applicants.get(applicant_id).review()

    @router.get("/applicants/{applicant_id}/requiredIdDocsStatus")
    async def steps(applicant_id: str) -> dict[str, Any]:
        return applicants.get(applicant_id).steps()


def _add_opening(router: APIRouter, applicants: Applicants, tokens: SdkTokens) -> None:
    @router.post("/applicants", status_code=201)
    async def create(request: Request, levelName: str = "") -> dict[str, Any]:  # noqa: N803 - Sumsub's name
        body = await _json(request)
        external_user_id = body.pop("externalUserId", None) or secrets.token_hex(12)
        return applicants.create(external_user_id, levelName, body).as_json()

    @router.post("/accessTokens/sdk")
    async def access_token(request: Request) -> dict[str, str]:
        body = await _json(request)
        user_id, ttl_s = body.get("userId"), body.get("ttlInSecs", 600)
        if not isinstance(user_id, str) or not isinstance(ttl_s, int):
            raise SandboxError(400, "userId and ttlInSecs are needed")
        applicant = applicants.find(user_id) or applicants.create(user_id, str(body.get("levelName")), {})
        return {"token": tokens.give(applicant, ttl_s), "userId": user_id}


def _add_changing(router: APIRouter, applicants: Applicants, access: Access) -> None:
    @router.post("/applicants/{applicant_id}/info/idDoc")
    async def add_document(applicant_id: str, request: Request, response: Response) -> dict[str, Any]:
        metadata, content = _parts(request.headers.get("content-type", ""), await request.body())
        image_id = applicants.add_document(applicants.get(applicant_id), metadata, content)
        response.headers["x-image-id"] = str(image_id)
        return metadata

    @router.post("/applicants/{applicant_id}/status/pending")
    async def check(applicant_id: str) -> dict[str, int]:
        applicants.check(applicants.get(applicant_id))
        return _OK

    @router.post("/applicants/{applicant_id}/reset")
    async def reset(applicant_id: str) -> dict[str, int]:
        applicants.reset(applicants.get(applicant_id))
        return _OK

    @router.patch("/applicants/{applicant_id}/presence/{presence}")
    async def set_presence(applicant_id: str, presence: str) -> dict[str, Any]:
        applicant = applicants.get(applicant_id)
        applicants.set_presence(applicant, deleted=presence == "deactivated")
        return applicant.as_json()

    @router.post("/applicants/{applicant_id}/status/testCompleted")
    async def simulate(applicant_id: str, request: Request) -> dict[str, int]:
        if not access.is_sandbox:
            raise SandboxError(400, "This method is only supported on sandbox env")
        applicants.decide(applicants.get(applicant_id), await _json(request), {})
        return _OK


async def _json(request: Request) -> dict[str, Any]:
    try:
        return msgspec.json.decode(await request.body(), type=dict[str, Any])
    except msgspec.DecodeError:
        raise SandboxError(400, "The body is not a JSON object") from None


def _parts(content_type: str, body: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the parts `metadata` and `content` of a multipart body."""
    message = BytesParser(policy=HTTP).parsebytes(b"content-type: " + content_type.encode() + b"\r\n\r\n" + body)
    found = {
        str(part.get_param("name", header="content-disposition")): part.get_payload(decode=True)
        for part in message.iter_parts()
    }
    metadata, content = found.get("metadata"), found.get("content")
    if not isinstance(metadata, bytes) or not isinstance(content, bytes):
        raise SandboxError(400, "metadata and content are needed")
    try:
        document = msgspec.json.decode(metadata, type=dict[str, Any])
        return {"idDocType": document["idDocType"], **document}, content
    except (msgspec.DecodeError, KeyError):
        raise SandboxError(400, "metadata is not a document") from None
