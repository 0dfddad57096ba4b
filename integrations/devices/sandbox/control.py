"""Control routes of Fingerprint's sandbox: what stands for the client's script, the dashboard and the clock."""

import json
import secrets
import time
import zlib
from base64 import b64decode, b64encode
from typing import Any, Literal

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from fastapi import APIRouter, HTTPException
from pydantic import Field

from integrations.devices.sandbox.profiles import PROFILES, Json, event_content
from integrations.devices.sandbox.store import Key, Store, StoredEvent, new_event_id
from integrations.devices.sealed import HEADER, NONCE_BYTES
from integrations.sandboxes.control import ControlModel


class NewEvent(ControlModel):
    """What a device does: `device` names it, so that the same one is told again.

    `changes` replaces fields of the event (null takes one away). The event is readable `readableAfterMs` from now, and
    complete `completeAfterMs` later.
    """

    profile: str = "clean_browser"
    device: str = Field(default_factory=lambda: secrets.token_hex(8))
    linked_id: str = ""
    age_ms: int = 0
    ip_address: str = "192.0.2.1"
    country: str = "DE"
    latitude: float = 52.52
    longitude: float = 13.4
    changes: dict[str, Any] = Field(default_factory=dict)
    readable_after_ms: int = Field(default=40, ge=0)
    complete_after_ms: int = Field(default=0, ge=0)


class CreatedEvent(ControlModel):
    """What the client's script gets."""

    event_id: str
    visitor_id: str


class NewKey(ControlModel):
    """A secret API key of the workspace."""

    key: str
    region: Literal["us", "eu", "ap"] = "us"
    active: bool = True
    may_delete: bool = True


class Limits(ControlModel):
    """How fast each key may ask."""

    per_second: float = Field(default=5.0, gt=0)
    burst: float = Field(default=15.0, ge=1)


class Sealing(ControlModel):
    """How an event is sealed: with which key (base64; else the first of the settings), and what is wrong with it."""

    key: str = ""
    variant: Literal["good", "wrong_header", "damaged_tag", "zlib_wrapped"] = "good"


def control_routes(store: Store, sealing_key: str) -> APIRouter:
    """Return the control routes."""
    router = APIRouter(prefix="/_control")

    @router.post("/events", status_code=201)
    async def create_event(new: NewEvent) -> CreatedEvent:
        if new.profile not in PROFILES:
            raise HTTPException(422, f"there are {', '.join(PROFILES)}")
        return _create(store, new)

    @router.post("/events/{event_id}/sealed")
    async def seal(event_id: str, sealing: Sealing) -> dict[str, str]:
        key = b64decode(sealing.key or sealing_key, validate=True)
        return {"sealed": _seal(_stored(store, event_id).content, key, sealing.variant)}

    @router.post("/keys", status_code=204)
    async def add_key(new: NewKey) -> None:
        store.keys[new.key] = Key(region=new.region, active=new.active, may_delete=new.may_delete)

    @router.put("/limits", status_code=204)
    async def set_limits(limits: Limits) -> None:
        store.per_second, store.burst = limits.per_second, limits.burst
        for key in store.keys.values():
            key.tokens = None

    return router


def _create(store: Store, new: NewEvent) -> CreatedEvent:
    at_ms = int(time.time() * 1000) - new.age_ms
    event_id, visitor_id = new_event_id(at_ms), store.visitor_id(new.device)
    content = event_content(
        new.profile,
        event_id=event_id,
        timestamp_ms=at_ms,
        visitor_id=visitor_id,
        linked_id=new.linked_id,
        ip_address=new.ip_address,
        country=new.country,
        latitude=new.latitude,
        longitude=new.longitude,
    )
    content = {name: value for name, value in {**content, **new.changes}.items() if value is not None}
    readable_at = time.monotonic() + new.readable_after_ms / 1000
    complete_at = readable_at + new.complete_after_ms / 1000
    store.add(StoredEvent(event_id, content, at_ms, new.device, visitor_id, readable_at, complete_at))
    return CreatedEvent(event_id=event_id, visitor_id=visitor_id)


def _stored(store: Store, event_id: str) -> StoredEvent:
    if event_id not in store.events:
        raise HTTPException(404, "no such event")
    return store.events[event_id]


def _seal(content: Json, key: bytes, variant: str) -> str:
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS if variant == "zlib_wrapped" else -zlib.MAX_WBITS)
    packed = packer.compress(json.dumps(content).encode()) + packer.flush()
    nonce = secrets.token_bytes(NONCE_BYTES)
    sealed = bytearray(HEADER + nonce + AESGCM(key).encrypt(nonce, packed, None))
    if variant == "wrong_header":
        sealed[0] ^= 1
    if variant == "damaged_tag":
        sealed[-1] ^= 1
    return b64encode(sealed).decode()
