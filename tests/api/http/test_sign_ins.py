"""Staff who come in, or are refused, are written down before they are answered: once, and whatever is away."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import Depends, FastAPI
from prometheus_client import CollectorRegistry

from api.http.access import Access
from api.http.application import create_application
from api.http.sign_ins import SignIns
from api.http.used_proofs import UsedProofs
from domain.audit import AuditEntry, AuditKind
from domain.errors import DomainError, ErrorCode
from domain.ids import new_staff_id
from domain.tokens import STAFF_ACCESS, VOTER_ACCESS, Role, StaffClaims, VoterClaims
from integrations.keys.access_tokens import AccessTokens
from integrations.keys.dpop import DpopVerifier, RequestProofs
from integrations.keys.dpop_keys import ProofKey
from integrations.keys.file_kms import FileKms
from integrations.keys.purposes import ACCESS_TOKEN, STAFF_TOKEN
from integrations.keys.signing import VerificationKeys
from integrations.keys.tokens import TokenVerifier
from integrations.settings import Environment, Settings
from integrations.telemetry.metrics import AuthMetrics
from integrations.telemetry.telemetry import make_telemetry
from tests.limits_world import lonely_limits

URL = "http://staff.test"
EUROPEAN = new_staff_id("eu")
AMERICAN = new_staff_id("us")


class Log:
    """Implements `StaffSignIns`; answers nobody while it is away."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []
        self.asked = 0
        self.is_away = False

    async def note(self, entry: AuditEntry) -> bool:
        self.asked += 1
        if self.is_away:
            raise DomainError(ErrorCode.AUDIT_LOG_UNAVAILABLE, "away")
        self.entries.append(entry)
        return True

    @property
    def told(self) -> list[tuple[str, str, str, str]]:
        return [(entry.kind, entry.actor, entry.role, entry.outcome) for entry in self.entries]


class Door:
    """A service of one route, its logs, and who signs tokens."""

    def __init__(self, client: httpx.AsyncClient, tokens: AccessTokens, logs: dict[str, Log]) -> None:
        self.client, self.tokens, self.logs = client, tokens, logs

    async def ask(self, token: str) -> tuple[int, str]:
        answer = await self.client.get("/", headers={"authorization": f"Bearer {token}"})
        return answer.status_code, answer.json()["code"] if answer.is_error else ""


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Door]:
    kms = FileKms(folder, frozenset({ACCESS_TOKEN, STAFF_TOKEN}))
    tokens = AccessTokens(kms)
    await tokens.refresh()
    staff, voters = VerificationKeys(kms, STAFF_TOKEN), VerificationKeys(kms, ACCESS_TOKEN)
    for held in (staff, voters):
        await held.refresh()
    logs = {cell: Log() for cell in ("eu", "us")}
    access = Access(
        staff=TokenVerifier(StaffClaims, STAFF_ACCESS, staff),
        voters=TokenVerifier(VoterClaims, VOTER_ACCESS, voters),
        proofs=RequestProofs(DpopVerifier(), URL),
        used=UsedProofs({}),
        limits=lonely_limits(),
        metrics=AuthMetrics(CollectorRegistry()),
        sign_ins=SignIns("test", logs),
    )
    app: FastAPI = create_application(
        "test", make_telemetry(Settings(environment=Environment.TEST), "test"), public_url=URL
    )

    @app.get("/", dependencies=[Depends(access.require_role(Role.ADMIN))])
    async def read() -> str:
        return "inside"

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=URL) as client:
        yield Door(client, tokens, logs)


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with opened(tmp_path) as made:
        yield made


async def test_a_session_is_written_down_once_in_the_log_of_its_home(door: Door) -> None:
    for staff, home, other in ((EUROPEAN, "eu", "us"), (AMERICAN, "us", "eu"), ("u_tester", "eu", "us")):
        before = {cell: len(log.entries) for cell, log in door.logs.items()}
        token = door.tokens.staff(staff, [Role.ADMIN])
        assert [await door.ask(token) for _ in range(3)] == [(200, "")] * 3
        assert door.logs[home].told[before[home] :] == [(AuditKind.STAFF_SIGNED_IN, f"staff:{staff}", "admin", "done")]
        assert len(door.logs[other].entries) == before[other]


async def test_another_session_of_the_same_person_is_another_entry(door: Door) -> None:
    for _ in range(2):
        assert await door.ask(door.tokens.staff(EUROPEAN, [Role.ADMIN])) == (200, "")
    assert len({entry.subject for entry in door.logs["eu"].entries}) == 2


async def test_a_home_that_is_away_is_stood_in_for_and_without_any_log_nobody_comes_in(door: Door) -> None:
    token = door.tokens.staff(AMERICAN, [Role.ADMIN])
    for log in door.logs.values():
        log.is_away = True
    assert await door.ask(token) == (503, "audit_log_unavailable")
    door.logs["eu"].is_away = False
    assert await door.ask(token) == (200, "")
    assert len(door.logs["eu"].entries) == 1
    asked = door.logs["us"].asked
    assert await door.ask(token) == (200, "")
    assert door.logs["us"].asked == asked  # what is written is not asked about again


async def test_a_genuine_token_that_is_refused_is_written_down_with_the_cause(door: Door) -> None:
    key = ProofKey.generate()
    bound = door.tokens.staff(EUROPEAN, [Role.ADMIN], jkt=key.jkt)
    unfit = door.tokens.staff(EUROPEAN, [Role.SUPPORT, Role.AUDITOR])
    door.tokens._now = lambda: time.time() - 3600
    old = door.tokens.staff(EUROPEAN, [Role.ADMIN])
    for token, answer in (
        (bound, (401, "proof_invalid")),
        (unfit, (403, "forbidden")),
        (old, (401, "token_expired")),
    ):
        assert [await door.ask(token) for _ in range(2)] == [answer] * 2
    assert door.logs["eu"].told == [
        (AuditKind.STAFF_REFUSED, f"staff:{EUROPEAN}", "admin", "proof_invalid"),
        (AuditKind.STAFF_REFUSED, f"staff:{EUROPEAN}", "auditor,support", "forbidden"),
        (AuditKind.STAFF_REFUSED, f"staff:{EUROPEAN}", "admin", "token_expired"),
    ]


async def test_a_refusal_that_cannot_be_written_down_stays_one(door: Door) -> None:
    for log in door.logs.values():
        log.is_away = True
    assert await door.ask(door.tokens.staff(EUROPEAN, [Role.SUPPORT])) == (403, "forbidden")
    assert door.logs["eu"].asked == 1


async def test_what_nobody_of_ours_signed_is_written_down_nowhere(door: Door, tmp_path: Path) -> None:
    async with opened(tmp_path / "elsewhere") as elsewhere:
        forged = elsewhere.tokens.staff(EUROPEAN, [Role.ADMIN])
    voter = door.tokens.voter("v_eu_" + "a" * 26, "eu", "DE")
    for token in ("nonsense", forged, voter, door.tokens.staff(EUROPEAN, [Role.ADMIN])[:-8] + "AAAAAAAA"):
        assert await door.ask(token) == (401, "token_invalid")
    assert [log.asked for log in door.logs.values()] == [0, 0]
