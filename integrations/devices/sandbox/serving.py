"""The calls of Fingerprint's server API that the sandbox answers, under one base per region."""

import re
import time
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Request
from starlette.responses import JSONResponse, Response

from integrations.devices.sandbox.profiles import Json
from integrations.devices.sandbox.store import REGIONS, Key, Store

_EVENT_ID: Final = re.compile(r"\d{13}\.[A-Za-z0-9]{1,32}")
_VISITOR_ID: Final = re.compile(r"[A-Za-z0-9]{20}")
_CHANGEABLE: Final[dict[str, type]] = {"linked_id": str, "tags": dict, "suspect": bool}
_LINKED_ID_MAX: Final = 256
_PAGE_MAX: Final = 100
_WEEK_MS: Final = 7 * 86_400_000
_MONTH_MS: Final = 30 * 86_400_000

Authorization = Annotated[str, Header()]


class Refusal(Exception):  # noqa: N818 - an answer, and no error of ours
    """A call that is answered with one of the vendor's codes."""

    def __init__(self, status: int, code: str, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(code)
        self.status = status
        self.content = error_body(code, message)
        self.retry_after_s = retry_after_s

    def answer(self) -> Response:
        """Return what is sent."""
        headers = {} if self.retry_after_s is None else {"retry-after": str(self.retry_after_s)}
        return JSONResponse(self.content, self.status, headers)


def error_body(code: str, message: str) -> Json:
    """Return the form of every error of v4."""
    return {"error": {"code": code, "message": message}}


def vendor_routes(store: Store) -> APIRouter:
    """Return the four calls of v4."""
    router = APIRouter(prefix="/{region}/v4")

    @router.get("/events/{event_id}")
    async def read(region: str, event_id: str, authorization: Authorization = "") -> Json:
        _admit(store, region, authorization)
        return _readable(store, event_id)

    @router.get("/events")
    async def search(region: str, request: Request, authorization: Authorization = "") -> Json:
        _admit(store, region, authorization)
        return _page(store, request.query_params)

    @router.patch("/events/{event_id}")
    async def change(region: str, event_id: str, request: Request, authorization: Authorization = "") -> Response:
        _admit(store, region, authorization)
        _change(store, event_id, await request.json())
        return Response()

    @router.delete("/visitors/{visitor_id}")
    async def delete(region: str, visitor_id: str, authorization: Authorization = "") -> Response:
        key = _admit(store, region, authorization)
        if not key.may_delete:
            raise Refusal(403, "feature_not_enabled", "feature not enabled")
        if not _VISITOR_ID.fullmatch(visitor_id):
            raise Refusal(400, "request_cannot_be_parsed", "invalid visitor id")
        if not store.forget(visitor_id, _now_ms()):
            raise Refusal(404, "visitor_not_found", "visitor not found")
        return Response()

    return router


def _admit(store: Store, region: str, authorization: str) -> Key:
    scheme, _, secret = authorization.partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise Refusal(403, "secret_api_key_required", "secret API key in header is missing or empty")
    key = store.keys.get(secret.strip())
    if key is None:
        message = "no fingerprint workspace found for specified secret API key"
        raise Refusal(403, "secret_api_key_not_found", message)
    if region not in REGIONS or region != key.region:
        raise Refusal(403, "wrong_region", "wrong region")
    if not key.active:
        raise Refusal(403, "subscription_not_active", "forbidden")
    if not store.admit(key, time.monotonic()):
        raise Refusal(429, "too_many_requests", "too many requests", retry_after_s=1)
    return key


def _readable(store: Store, event_id: str) -> Json:
    if not _EVENT_ID.fullmatch(event_id):
        raise Refusal(400, "request_cannot_be_parsed", "invalid event_id")
    event = store.events.get(event_id)
    if event is None or time.monotonic() < event.readable_at:
        raise Refusal(404, "event_not_found", "event id not found")
    if time.monotonic() < event.complete_at:
        return {**event.content, "incremental_identification_status": "partially_completed"}
    return event.content


def _change(store: Store, event_id: str, changes: Any) -> None:
    _readable(store, event_id)
    event = store.events[event_id]
    if not event.settled or _now_ms() - event.at_ms > _MONTH_MS:
        event.settled = True
        raise Refusal(409, "state_not_ready", "resource is not mutable yet, try again")
    for name, value in changes.items() if isinstance(changes, dict) else [("", None)]:
        if not isinstance(value, _CHANGEABLE.get(name, ())):
            raise Refusal(400, "request_cannot_be_parsed", "request body is not valid")
        if isinstance(value, str) and len(value) > _LINKED_ID_MAX:
            message = "linked_id can't be greater than 256 characters long"
            raise Refusal(400, "request_cannot_be_parsed", message)
        event.content[name] = value


def _page(store: Store, query: Any) -> Json:
    limit = _number(query, "limit", 10)
    offset = _number(query, "pagination_key", 0)
    if not 1 <= limit <= _PAGE_MAX:
        raise Refusal(400, "request_cannot_be_parsed", "invalid limit")
    found = store.search(
        visitor_id=query.get("visitor_id"),
        linked_id=query.get("linked_id"),
        start_ms=_number(query, "start", _now_ms() - _WEEK_MS),
        end_ms=_number(query, "end", _now_ms()),
    )
    page: Json = {"events": found[offset : offset + limit], "total_hits": min(len(found), 1000)}
    if offset + limit < len(found):
        page["pagination_key"] = str(offset + limit)
    return page


def _number(query: Any, name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not text.isdigit():
        raise Refusal(400, "request_cannot_be_parsed", f"invalid {name.replace('_', ' ')}")
    return int(text)


def _now_ms() -> int:
    return int(time.time() * 1000)
