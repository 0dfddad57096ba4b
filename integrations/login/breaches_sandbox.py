"""The sandbox of the breached passwords' range API: some well-known ones, and what control routes add."""

import hashlib
import random
import re
import secrets
from contextlib import AsyncExitStack
from typing import Annotated, Final

from fastapi import APIRouter, FastAPI, Header
from pydantic import Field
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp

from integrations.login.breaches import PREFIX_DIGITS
from integrations.sandboxes.control import ControlModel
from integrations.sandboxes.faults import Faults, FaultSwitches, fault_routes
from integrations.settings import Settings

_WELL_KNOWN: Final = {"password": 52_256_179, "123456": 209_972_844, "qwerty": 30_229_438, "P@ssw0rd": 52_579}
_PREFIX: Final = re.compile(rf"[0-9A-F]{{{PREFIX_DIGITS}}}")
_SUFFIX_DIGITS: Final = 35
_IN_A_RANGE: Final = 500  # of other hashes, the same for a prefix whenever it is asked for
_PADDED_MIN, _PADDED_MAX = 800, 1000


class Breach(ControlModel):
    """A password that was lost so many times."""

    password: str = Field(min_length=1)
    count: int = Field(default=1, ge=1)


async def open_sandbox(settings: Settings, lifetime: AsyncExitStack) -> ASGIApp | None:  # noqa: ARG001 - the registry's form
    """Return the sandbox, or None where the settings name no such vendor."""
    if settings.breaches is None:
        return None
    known, faults = {_hash(password): count for password, count in _WELL_KNOWN.items()}, Faults()
    app = FastAPI(openapi_url=None)
    app.include_router(fault_routes(faults))
    app.include_router(_routes(known))
    return FaultSwitches(app, faults, lambda status: {"statusCode": status, "message": "sandbox fault"})


def _routes(known: dict[str, int]) -> APIRouter:
    router = APIRouter()

    @router.post("/_control/breaches", status_code=204)
    async def add(breach: Breach) -> None:
        known[_hash(breach.password)] = breach.count

    @router.get("/range/{prefix}")
    async def search(prefix: str, add_padding: Annotated[str, Header()] = "") -> Response:
        prefix = prefix.upper()
        if not _PREFIX.fullmatch(prefix):
            return PlainTextResponse("The hash prefix was not in a valid format", 400)
        found = {code[PREFIX_DIGITS:]: count for code, count in known.items() if code.startswith(prefix)}
        return PlainTextResponse("\r\n".join(_range(prefix, found, padded=add_padding.lower() == "true")))

    return router


def _range(prefix: str, found: dict[str, int], *, padded: bool) -> list[str]:
    others = random.Random(prefix)  # noqa: S311 - filling, and the same each time
    entries = {f"{others.getrandbits(140):0{_SUFFIX_DIGITS}X}": others.randint(1, 50) for _ in range(_IN_A_RANGE)}
    entries |= found
    size = _PADDED_MIN + secrets.randbelow(_PADDED_MAX - _PADDED_MIN + 1) if padded else 0
    while len(entries) < size:
        entries.setdefault(f"{secrets.randbits(140):0{_SUFFIX_DIGITS}X}", 0)
    return [f"{suffix}:{count}" for suffix, count in sorted(entries.items())]


def _hash(password: str) -> str:
    return hashlib.sha1(password.encode(), usedforsecurity=False).hexdigest().upper()
