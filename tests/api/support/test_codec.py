"""The codec server of Temporal's UI: who is shown what of a payload, from which pages, and never without an entry."""

import base64
import json
from collections.abc import AsyncIterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from temporalio.api.common.v1 import Payload

from api.http.application import create_application
from api.http.limits import Limits
from api.support.codec import CodecCell, CodecDesk
from api.support.codec_routes import PAYLOADS_MAX, add_codec
from domain.audit import AuditEntry, AuditKind
from domain.contracts.base import Contract
from domain.contracts.reconciliation import Difference
from domain.contracts.registration import CaseFinding, HashedValue, VerifiedIdentity
from domain.contracts.voting import SealedVote, SubmitVotesInput
from domain.errors import DomainError, ErrorCode
from domain.recognition import Recognition, every_contract
from domain.tokens import Role
from integrations.keys.file_kms import FileKms
from integrations.keys.purposes import (
    DAILY,
    HISTORY,
    MANAGE,
    history,
    in_flight,
)
from integrations.settings import Environment, Settings
from integrations.telemetry.telemetry import make_telemetry
from integrations.temporal.codec import EncryptionCodec
from integrations.temporal.remote_codec import RemoteCodec
from tests.api.support.staff_desk import ANN, door, staff
from tests.contracts.models import example_of
from tests.limits_world import lonely_limits

UI = "https://temporal.example.org"
DECODE = "/v1/support/codec/decode"
DECIDED = VerifiedIdentity(decision="approved", reasons=("fine",), staff_reasons=("selfie",), person_id="p_somebody")
SECRETS = ("p_somebody", "selfie", "decision", "approved")


class Entries:
    """The entries of a cell, until they cannot be written."""

    def __init__(self) -> None:
        self.written: list[AuditEntry] = []
        self.is_away = False

    async def write(self, entry: AuditEntry) -> None:
        if self.is_away:
            raise DomainError(ErrorCode.DIRECTORY_UNAVAILABLE)
        self.written.append(entry)


class Codec:
    """The codec server over two cells, for people who say by header who they are."""

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        self.entries = Entries()
        self.keys = FileKms(folder, frozenset({HISTORY, DAILY, MANAGE + HISTORY}))
        self.desk = CodecDesk(self._cell, RemoteCodec(self.keys, Recognition(every_contract())))
        self.app = create_application("support", make_telemetry(Settings(environment=Environment.TEST), "support"))
        add_codec(self.app, self.desk, door(Role.SUPPORT, Role.COMPLIANCE), limits or lonely_limits(), {UI})
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://support")

    def _cell(self, name: str | None) -> CodecCell:
        if name == "us":
            raise DomainError(ErrorCode.CELL_UNAVAILABLE)
        if name != "eu":
            raise DomainError(ErrorCode.WRONG_CELL)
        return CodecCell(name, self.entries)

    async def sealed(self, *contents: Contract | bytes, purpose: str = history("eu")) -> list[Payload]:
        payloads = [
            Payload(
                metadata={"encoding": b"json/plain"},
                data=each if isinstance(each, bytes) else each.model_dump_json().encode(),
            )
            for each in contents
        ]
        return await EncryptionCodec(self.keys, purpose).encode(payloads)

    async def ask(
        self, payloads: Sequence[Payload], *roles: Role, who: str = ANN, namespace: str | None = "eu", **headers: str
    ) -> httpx.Response:
        named = {} if namespace is None else {"x-namespace": namespace}
        body = {"payloads": [as_json(each) for each in payloads]}
        return await self.client.post(DECODE, json=body, headers=staff(who, roles) | named | headers)

    async def shown(self, *contents: Contract | bytes, roles: Sequence[Role] = (Role.SUPPORT,)) -> list[Any]:
        return shown_in(await self.ask(await self.sealed(*contents), *roles))


def as_json(payload: Payload) -> dict[str, Any]:
    return {
        "metadata": {name: base64.b64encode(value).decode() for name, value in payload.metadata.items()},
        "data": base64.b64encode(payload.data).decode(),
    }


def shown_in(answer: httpx.Response) -> list[Any]:
    assert answer.status_code == 200, answer.text
    found = answer.json()["payloads"]
    assert all(base64.b64decode(each["metadata"]["encoding"]) == b"json/plain" for each in found)
    return [json.loads(base64.b64decode(each["data"])) for each in found]


def code_of(answer: httpx.Response) -> tuple[int, str]:
    for secret in SECRETS:
        assert secret not in answer.text
        assert base64.b64encode(secret.encode()).decode()[:8] not in answer.text
    return answer.status_code, answer.json()["code"]


@pytest.fixture
async def codec(tmp_path: Path) -> AsyncIterator[Codec]:
    made = Codec(tmp_path)
    async with made.client:
        yield made


@pytest.mark.parametrize(
    ("roles", "person", "reasons"),
    [
        ((Role.SUPPORT,), "***", "***"),
        ((Role.COMPLIANCE,), "p_somebody", ["selfie"]),
        ((Role.SUPPORT, Role.COMPLIANCE), "p_somebody", ["selfie"]),
        ((Role.SUPPORT, Role.ADMIN), "***", "***"),
    ],
)
async def test_each_role_is_shown_its_fields(codec: Codec, roles: tuple[Role, ...], person: str, reasons: Any) -> None:
    (shown,) = await codec.shown(DECIDED, roles=roles)
    assert (shown["decision"], shown["reasons"]) == ("approved", ["fine"])
    assert (shown["person_id"], shown["staff_reasons"]) == (person, reasons)


@pytest.mark.parametrize("role", [role for role in Role if role not in {Role.SUPPORT, Role.COMPLIANCE}])
async def test_other_roles_are_shown_nothing(codec: Codec, role: Role) -> None:
    assert code_of(await codec.ask(await codec.sealed(DECIDED), role)) == (403, "forbidden")
    assert codec.entries.written == []


async def test_programs_are_shown_nothing(codec: Codec) -> None:
    answer = await codec.ask(await codec.sealed(DECIDED), Role.SUPPORT, who="client:c_program")
    assert code_of(answer) == (403, "forbidden")
    assert codec.entries.written == []


async def test_choices_tokens_and_documents_are_shown_to_nobody(codec: Codec) -> None:
    document = HashedValue(key_id="document/2026-01-01/1", digest=b"the digest of a document")
    finding = CaseFinding(state="approved", documents=(document,), age_class=18)
    difference = Difference.model_validate({**example_of(Difference), "option": "the choice", "found": 4711})
    for shown in await codec.shown(finding, difference, roles=list(Role)):
        assert "documents" not in shown
        assert {"option", "found", "expected", "ballot", "participation"}.isdisjoint(shown)
        assert "the choice" not in json.dumps(shown)
    assert (await codec.shown(finding, roles=[Role.SUPPORT]))[0]["age_class"] == "***"


async def test_votes_are_never_opened(codec: Codec) -> None:
    vote = SealedVote(survey_id="s", nullifier=b"n" * 32, evidence=bytes(64), region="r", sealed_answers=b"a choice")
    batch = SubmitVotesInput(cell="eu", gateway_id=bytes(16), number=1, votes=(vote,))
    answer = await codec.ask(await codec.sealed(batch, purpose=in_flight("eu")), *Role)
    assert code_of(answer) == (403, "forbidden")
    assert codec.entries.written == []
    (shown,) = await codec.shown(batch, roles=list(Role))  # nor where somebody had sealed them with another key
    assert set(shown) == {"cell", "gateway_id", "number"}


async def test_what_is_no_contract_is_masked_and_nothing_stays_nothing(codec: Codec) -> None:
    failure = b'{"message": "no such mailbox anna@example.org", "stack_trace": "line 1"}'
    assert await codec.shown(failure, b'"anna@example.org"', b"17", roles=list(Role)) == ["***"] * 3
    nothing = await EncryptionCodec(codec.keys, history("eu")).encode([Payload(metadata={"encoding": b"binary/null"})])
    raw = await EncryptionCodec(codec.keys, history("eu")).encode(
        [Payload(metadata={"encoding": b"binary/plain"}, data=b"anna@example.org")]
    )
    answer = await codec.ask([*nothing, *raw])
    null, masked = answer.json()["payloads"]
    assert null == as_json(Payload(metadata={"encoding": b"binary/null"}))
    assert base64.b64decode(masked["data"]) == b'"***"'


async def test_what_was_never_sealed_comes_back_and_is_no_entry(codec: Codec) -> None:
    plain = Payload(metadata={"encoding": b"json/plain"}, data=b'{"of": "a trace"}')
    answer = await codec.ask([plain])
    assert answer.json() == {"payloads": [as_json(plain)]}
    assert (await codec.ask([])).json() == {"payloads": []}
    assert codec.entries.written == []


async def test_what_is_opened_is_an_entry_first(codec: Codec) -> None:
    payloads = await codec.sealed(DECIDED, b"17")
    await codec.ask([*payloads, Payload(metadata={"encoding": b"json/plain"}, data=b"1")], Role.COMPLIANCE)
    (entry,) = codec.entries.written
    digests = ",".join(sha256(each.data).hexdigest() for each in payloads)
    assert (entry.kind, entry.actor, entry.role) == (AuditKind.HISTORY_DECODED, ANN, "compliance")
    assert entry.facts == {"namespace": "eu", "payloads": digests, "count": 2}
    codec.entries.is_away = True
    assert code_of(await codec.ask(payloads, Role.COMPLIANCE)) == (503, "directory_unavailable")
    many = await codec.sealed(*[DECIDED] * PAYLOADS_MAX)
    codec.entries.is_away = False
    assert len(shown_in(await codec.ask(many))) == PAYLOADS_MAX


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (UI, 200),
        (None, 200),  # a program: the command line sends none
        (f"{UI}/", 403),
        (f"{UI}:443", 403),
        (f"{UI}.evil.org", 403),
        (f"{UI},{UI}", 403),
        (UI.upper(), 403),
        ("http://temporal.example.org", 403),
        ("https://evil.temporal.example.org", 403),
        ("https://example.org", 403),
        ("http://support", 403),
        ("null", 403),
        ("*", 403),
        ("", 403),
    ],
)
async def test_only_pages_that_are_named_are_answered(codec: Codec, origin: str | None, status: int) -> None:
    headers = {} if origin is None else {"origin": origin}
    answer = await codec.ask(await codec.sealed(DECIDED), **headers)
    before = await codec.client.options(DECODE, headers={**headers, "access-control-request-method": "POST"})
    assert answer.status_code == status
    assert len(codec.entries.written) == (status == 200)
    assert "origin" in answer.headers["vary"].lower()
    for each in (answer, before):
        allowed = {name: value for name, value in each.headers.items() if name.startswith("access-control-")}
        assert "*" not in str(allowed)
        if origin == UI:
            assert allowed["access-control-allow-origin"] == UI
            assert allowed["access-control-allow-credentials"] == "true"
        else:
            assert allowed == {}
    if origin == UI:
        assert before.status_code == 204
        assert before.headers["access-control-allow-methods"] == "POST"
        asked = set(before.headers["access-control-allow-headers"].split(", "))
        assert {"authorization", "content-type", "x-namespace"} <= asked
    else:
        assert before.status_code == (405 if origin is None else 403)


async def test_two_origins_are_none(codec: Codec) -> None:
    headers = [*staff(ANN, ()).items(), ("x-namespace", "eu"), ("origin", UI), ("origin", "https://evil.org")]
    answer = await codec.client.post(DECODE, json={"payloads": []}, headers=headers)
    assert code_of(answer) == (403, "forbidden")


async def test_a_page_that_is_named_may_read_refusals_and_no_other_route(codec: Codec) -> None:
    answer = await codec.ask(await codec.sealed(DECIDED), Role.ADMIN, origin=UI)
    assert (code_of(answer), answer.headers["access-control-allow-origin"]) == ((403, "forbidden"), UI)
    other = await codec.client.get("/livez", headers={"origin": UI})
    assert (other.status_code, "access-control-allow-origin" in other.headers) == (200, False)


async def test_nothing_is_sealed_here(codec: Codec) -> None:
    headers = staff(ANN, (Role.COMPLIANCE,)) | {"x-namespace": "eu"}
    answer = await codec.client.post("/v1/support/codec/encode", json={"payloads": []}, headers=headers)
    assert code_of(answer) == (403, "forbidden")


@pytest.mark.parametrize(
    ("namespace", "code"),
    [
        ("us", (503, "cell_unavailable")),
        ("platform", (404, "not_found")),
        ("nobodys", (404, "not_found")),
        ("", (400, "malformed_request")),
        (None, (400, "malformed_request")),
    ],
)
async def test_a_namespace_that_is_no_cells_is_refused(
    codec: Codec, namespace: str | None, code: tuple[int, str]
) -> None:
    assert code_of(await codec.ask(await codec.sealed(DECIDED), namespace=namespace)) == code


async def test_what_does_not_open_is_refused_alike_and_tells_nothing(codec: Codec) -> None:
    (good,) = await codec.sealed(DECIDED)
    key_id = good.metadata["encryption-key-id"]

    def changed(data: bytes = good.data, key: bytes = key_id) -> Payload:
        return Payload(metadata={"encoding": b"binary/encrypted", "encryption-key-id": key}, data=data)

    flipped = good.data[:-1] + bytes([good.data[-1] ^ 1])
    for data in (flipped, good.data[:-1], good.data + b"x", good.data[:5], b"", b"x" * 64):
        assert code_of(await codec.ask([good, changed(data)])) == (400, "malformed_request")
    for key in (b"", b"\xff\xfe", b"history/us/2026-01-01/1", b"kek/personal/2026-01-01/1", b"x" * 300):
        status, code = code_of(await codec.ask([good, changed(key=key)]))
        assert (status, code) in {(400, "malformed_request"), (403, "forbidden")}
    for key in (b"history/eu/2020-01-01/7", b"history/eu/../us/2026-01-01/1", b"history/eu/sub/2026-01-01/1"):
        assert code_of(await codec.ask([changed(key=key)])) == (503, "key_unavailable")
    (foreign,) = await codec.sealed(DECIDED, purpose=history("us"))
    assert code_of(await codec.ask([foreign])) == (403, "forbidden")
    assert codec.entries.written == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"payloads": 1}',
        b'{"payloads": [1]}',
        b'{"payloads": [{"data": "not base64!"}]}',
        b'{"payloads": [{"metadata": {"encoding": "b"}}]}',
        json.dumps({"payloads": [{}] * (PAYLOADS_MAX + 1)}).encode(),
        json.dumps({"payloads": [{"metadata": {str(n): "" for n in range(17)}}]}).encode(),
    ],
)
async def test_what_is_not_the_protocol_is_refused(codec: Codec, body: bytes) -> None:
    headers = staff(ANN, ()) | {"x-namespace": "eu", "content-type": "application/json"}
    assert code_of(await codec.client.post(DECODE, content=body, headers=headers)) == (400, "malformed_request")


async def test_size_and_rate_have_bounds(tmp_path: Path) -> None:
    codec = Codec(tmp_path, lonely_limits(codec=(2, 60)))
    async with codec.client:
        large = [Payload(metadata={"encoding": b"json/plain"}, data=bytes(64 * 1024))]
        assert code_of(await codec.ask(large)) == (413, "payload_too_large")
        assert [(await codec.ask([])).status_code for _ in range(3)] == [200, 200, 429]
        assert (await codec.ask([], who="staff:u_eu_bob")).status_code == 200


async def test_a_key_that_was_destroyed_opens_nothing_from_then_on(codec: Codec) -> None:
    payloads = await codec.sealed(DECIDED)
    assert len(shown_in(await codec.ask(payloads))) == 1
    await codec.keys.destroy(payloads[0].metadata["encryption-key-id"].decode())
    assert code_of(await codec.ask(payloads)) == (410, "key_destroyed")
    assert len(codec.entries.written) == 1
