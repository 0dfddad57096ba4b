"""Every route of every service lets in whom it is for, and nobody with another role or another kind of token."""

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from domain.tokens import Role
from tests.end_to_end.house import House
from tests.end_to_end.openapi_documents import SERVICES, committed

_SEES_CASES = frozenset({Role.SUPPORT, Role.COMPLIANCE})
# Whose the routes of staff are, by how their addresses begin; the longest beginning counts
STAFF = {
    "/v1/internal/": frozenset({Role.ADMIN}),
    "/v1/support/": _SEES_CASES,
    "/v1/support/unmaskings/{": _SEES_CASES | {Role.ADMIN},
    "/v1/support/unmaskings/{unmasking_id}/decision": frozenset({Role.COMPLIANCE, Role.ADMIN}),
    "/v1/compliance/": frozenset({Role.COMPLIANCE}),
    "/v1/compliance/logs": frozenset({Role.COMPLIANCE, Role.AUDITOR}),
}
OPEN = {  # to whoever brings something else than a token: a proof, a signature, a secret, a link, or nothing
    "auth": r"/v1/registrations.*|/\.well-known/.*|/v1/auth/(token|oidc/.*|backchannel-logout|logins.*)"
    r"|/v1/account/(recovery/?[^-]*|recovery/.*/passkey-options|deletions/.*)",
    "surveys": r"/v1/(surveys|certificate-keys|log-keys).*",
    "results": r"/v1/surveys/.*",
    "streams": r"/v1/surveys/.*",
    "webhooks": r"/v1/webhooks/.*",
}

BODIES = {"/v1/surveys/{id}/answers": {"question": "1"}}  # is looked at first
NOBODYS = {"/v1/support/codec/encode": {403}}  # refused to whoever comes in


@dataclass(frozen=True)
class Door:
    service: str
    method: str
    path: str

    @property
    def roles(self) -> frozenset[Role]:
        found = [start for start in STAFF if self.path.startswith(start)]
        return STAFF[max(found, key=len)] if found else frozenset()

    @property
    def address(self) -> str:
        return re.sub(r"\{[a-z_]+\}", "1", self.path)


def doors() -> Iterator[Door]:
    for service in SERVICES:
        for path, operations in committed(service)["paths"].items():
            if not re.fullmatch(OPEN.get(service, ""), path):
                yield from (Door(service, method.upper(), path) for method in operations)


DOORS = list(doors())


async def statuses(house: House, door: Door, *tokens: str) -> list[int]:
    async def status(token: str) -> int:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        body = BODIES.get(door.path)
        answer = await house.clients[door.service].request(door.method, door.address, headers=headers, json=body)
        return answer.status_code

    return await asyncio.gather(*map(status, tokens))


async def test_every_door_opens_to_one_kind_of_token(house: House) -> None:
    survey = await house.open_survey("Behind doors")
    _, voter = await house.voter()
    voting, staff = house.token(survey), house.access.staff("u_tester", list(Role))
    wrong = []
    for door in DOORS:
        others = (staff if not door.roles else voter, voter if door.service == "votes" else voting)
        found = await statuses(house, door, "", *others)
        if found != [401, 401, 401]:
            wrong.append((door, found))
    assert wrong == []


async def test_every_door_of_staff_opens_to_its_roles_and_to_no_other(house: House) -> None:
    tokens = {role: house.access.staff("u_tester", [role]) for role in Role}
    none, wrong = house.access.staff("u_tester", []), []
    for door in (door for door in DOORS if door.roles):
        shut = [none, *(tokens[role] for role in Role if role not in door.roles)]
        refused = await statuses(house, door, *shut)
        let_in = await statuses(house, door, *(tokens[role] for role in sorted(door.roles)))
        if set(refused) != {403} or {401, 403} & set(let_in) - NOBODYS.get(door.path, set()):
            wrong.append((door, refused, let_in))
    assert wrong == []


SPELLINGS = (
    *("http://x{path}", "/x/..{path}", "/.{path}", "/{path}", "{path}/", "{path};a=b", "{path}%00", "{path}%0A"),
    *("{path}#a", "{upper}", "{encoded}"),
)


async def test_no_spelling_of_an_address_opens_its_door(house: House) -> None:
    opened = []
    for door in {door.service: door for door in DOORS if door.roles}.values():
        path = door.address
        for form in SPELLINGS:
            target = form.format(path=path, upper=path.upper(), encoded=path.replace("/", "%2F"))
            told = f"x-original-url: {path}\r\nx-http-method-override: {door.method}\r\n"
            for method in (door.method, "HEAD", "OPTIONS", "TRACE"):
                request = f"{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{told}\r\n"
                url = urlsplit(house.supervisor.url(door.service))
                reader, writer = await asyncio.open_connection(url.hostname, url.port)
                writer.write(request.encode())
                status = (await reader.readline())[9:12]
                writer.close()
                if status not in {b"400", b"401", b"404", b"405"}:
                    opened.append((method, target, status))
    assert opened == []


@pytest.mark.parametrize("service", ["surveys", "results", "support", "compliance", "votes", "eligibility", "auth"])
def test_there_are_doors_of_every_service_that_has_some(service: str) -> None:
    assert any(door.service == service for door in DOORS)
