"""The search of an audit log over HTTP: it finds what is sealed, and is made anew out of that alone."""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio
from starlette.types import ASGIApp
from typer.testing import CliRunner

from activities.log_indexing import LogIndexing
from activities.log_reading import LogReading
from api.compliance.composition import BASE, TEMPLATES, compose
from comitia.cli import app as command_line
from comitia.stack.state import StackState
from domain.audit import AuditEntry, AuditKind
from domain.audit_log import origin_of
from domain.ids import new_staff_id
from domain.tokens import Role
from integrations.identity_cell import identity_pools
from integrations.keys.access_tokens import AccessTokens
from integrations.keys.opening import open_keys
from integrations.keys.purposes import ACCESS_TOKEN, AUDIT_LOG, STAFF_TOKEN, public
from integrations.keys.signing import LogKeys
from integrations.objects.log_objects import open_log_objects
from integrations.postgres.audit_entries import append
from integrations.postgres.log_search import PostgresLogSearch
from integrations.postgres.roles import AUDIT, IDENTITY, SEARCH, STAFFING
from integrations.settings import Environment
from integrations.telemetry.telemetry import make_telemetry
from tests.conftest import OwnerPool, SettingsFor
from tests.console_world import ADDRESS, ConsoleWorld, console_world
from tests.integrations.postgres.test_entry_writers import connected
from tests.sealing_world import Seal, sealing

CELL = "eu"
SHOWN = 50  # entries of a page
ROW = '<tr><th scope="row">'
LINK = re.compile(r'href="([^"]+)"')
ROWS = "SELECT * FROM audit.search ORDER BY leaf_index"


@dataclass
class Searcher:
    """The service as it is composed over the log of a cell, what seals that, and what follows it."""

    client: httpx.AsyncClient
    tokens: AccessTokens
    staffing: asyncpg.Pool
    owner: asyncpg.Pool
    seal: Seal
    indexing: LogIndexing
    folder: Path
    world: ConsoleWorld
    app: ASGIApp

    async def get(self, *roles: Role, log: str = CELL, **params: Any) -> httpx.Response:
        token = self.tokens.staff("u_tester", roles or (Role.COMPLIANCE,))
        headers = {"authorization": f"Bearer {token}"}
        params = {name.rstrip("_"): value for name, value in params.items()}
        return await self.client.get(f"/v1/compliance/logs/{log}/entries", params=params, headers=headers)

    async def found(self, **params: Any) -> list[tuple[str, str, str]]:
        """Return kind, actor and subject of every entry that is found, page by page."""
        found: list[tuple[str, str, str]] = []
        while True:
            answer = await self.get(**params)
            assert answer.status_code == 200, answer.text
            body = answer.json()
            assert len(body["entries"]) <= params.get("limit", 50)
            for entry in body["entries"]:
                told = entry["entry"]["body"]
                found.append((entry["entry"]["kind"], told.get("actor", ""), told.get("subject", "")))
            if "nextCursor" not in body:
                return found
            params["cursor"] = body["nextCursor"]

    async def write(self, *entries: AuditEntry) -> None:
        for entry in entries:
            async with self.staffing.acquire() as connection, connection.transaction():
                await append(connection, entry)

    async def searched(self) -> int:
        """Seal and index everything that was written so far; return up to which place it is searched."""
        await self.seal()
        return await self.indexing.follow()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def searcher(
    settings_for: SettingsFor, owner_pool: OwnerPool, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Searcher]:
    folder, owner = tmp_path_factory.mktemp("objects"), await owner_pool(CELL)
    async with open_searcher(settings_for, owner, folder, ADDRESS) as opened:
        yield opened


@asynccontextmanager
async def open_searcher(
    settings_for: SettingsFor, owner: asyncpg.Pool, folder: Path, address: str
) -> AsyncIterator[Searcher]:
    settings = settings_for(IDENTITY, SEARCH, STAFFING, objects_folder=folder, public_url=address)
    tokens = AccessTokens(open_keys(settings, ACCESS_TOKEN, STAFF_TOKEN))
    await tokens.refresh()
    async with AsyncExitStack() as lifetime:
        seal = await lifetime.enter_async_context(sealing(settings_for(AUDIT), CELL, folder))
        staffing = await lifetime.enter_async_context(connected(settings_for, CELL, STAFFING))
        keeper = await lifetime.enter_async_context(connected(settings_for, CELL, AUDIT, size=4))
        signer = LogKeys(open_keys(settings, public(AUDIT_LOG)), AUDIT_LOG)
        origin = origin_of(settings.environment.value, CELL)
        reading = LogReading(open_log_objects(settings), signer, CELL, origin)
        indexing = LogIndexing(reading, PostgresLogSearch(keeper))
        pools = await identity_pools(settings, lifetime)
        world = await lifetime.enter_async_context(console_world(settings, pools, BASE, TEMPLATES, address=address))
        settings = settings.model_copy(update={"staff_provider": world.staff_provider})
        service = await compose(settings, lifetime, make_telemetry(settings, "compliance"))
        world.serve(service.app)
        transport = httpx.ASGITransport(service.app)
        client = await lifetime.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://officer"))
        yield Searcher(client, tokens, staffing, owner, seal, indexing, folder, world, service.app)


@dataclass
class Case:
    """Entries that nobody else has written."""

    actor: str
    staff: list[str]

    @property
    def entries(self) -> list[AuditEntry]:
        kinds = (AuditKind.STAFF_ADDED, AuditKind.STAFF_DISABLED)
        return [AuditEntry(kind, self.actor, staff) for staff in self.staff for kind in kinds]

    @property
    def told(self) -> list[tuple[str, str, str]]:
        """What the search says of them, the newest first."""
        return [(entry.kind.value, entry.actor, entry.subject) for entry in reversed(self.entries)]


def case() -> Case:
    return Case(f"comitia:{secrets.token_hex(8)}", [new_staff_id(CELL) for _ in range(3)])


async def test_an_entry_is_found_by_what_it_says_once_it_is_sealed(searcher: Searcher) -> None:
    made, other = case(), case()
    await searcher.write(*made.entries, *other.entries)
    assert await searcher.found(actor=made.actor) == []
    await searcher.searched()
    assert await searcher.found(actor=made.actor) == made.told
    assert await searcher.found(actor=made.actor, limit=2) == made.told
    assert await searcher.found(subject=made.staff[1]) == made.told[2:4]
    assert await searcher.found(subject=made.staff[1], kind="staff.added") == [made.told[3]]
    assert await searcher.found(actor=made.actor, subject=other.staff[0]) == []
    newest = [entry["entry"]["body"].get("subject", "") for entry in (await searcher.get()).json()["entries"]]
    ours = [subject for _, _, subject in other.told + made.told]
    assert [subject for subject in newest if subject in ours] == ours
    assert await searcher.found(kind="votes.recorded") == []

    moments = [
        datetime.fromisoformat(entry["entry"]["at"])
        for entry in (await searcher.get(actor=made.actor)).json()["entries"]
    ]
    last, first = moments[0], moments[-1]
    assert first < last
    assert await searcher.found(actor=made.actor, from_=last.isoformat()) == made.told[:1]
    assert await searcher.found(actor=made.actor, to=last.isoformat()) == made.told[1:]
    since, until = first - timedelta(hours=1), first + timedelta(microseconds=1)
    assert await searcher.found(actor=made.actor, from_=since.isoformat(), to=until.isoformat()) == made.told[-1:]


async def test_the_page_finds_what_the_api_finds_and_each_line_leads_to_its_proof(searcher: Searcher) -> None:
    made = [case() for _ in range(9)]
    actor = made[0].actor
    staff = [each for some in made for each in some.staff]
    await searcher.write(*(entry for each in staff for entry in Case(actor, [each]).entries))
    await searcher.searched()
    _, browser = await searcher.world.signed_in(Role.AUDITOR)
    form = await browser.get("/search")
    assert (form.status_code, "<h2" in form.text) == (200, False)
    page = await browser.submit(form, "/search", log=CELL, kind="", actor=actor)
    told = (await searcher.get(actor=actor, limit=100)).json()["entries"]
    assert len(told) == 2 * len(staff) > SHOWN
    assert page.text.count(ROW) == SHOWN
    (address,) = [each for each in LINK.findall(page.text) if "before=" in each]
    older = await browser.client.get(unescape(address))
    shown = [line for text in (page.text, older.text) for line in text.splitlines() if line.startswith(ROW)]
    for line, entry in zip(shown, told, strict=True):
        assert f'"{BASE}/entries?log={CELL}&amp;index={entry["index"]}"' in line
        assert entry["entry"]["body"]["subject"] in line
    proved = await browser.get(f"/entries?log={CELL}&index={told[-1]['index']}")
    assert staff[0] in proved.text
    nothing = await browser.submit(form, "/search", log=CELL, kind="staff.added", subject='"><script>')
    assert ("No entry says this." in nothing.text, "<script>" in nothing.text) == (True, False)
    late = {"from": told[0]["entry"]["at"], "to": "2999-01-01T00:00"}
    assert (await browser.submit(form, "/search", log=CELL, kind="", actor=actor, **late)).text.count(ROW) == 1


async def test_the_page_refuses_what_is_no_search_and_who_may_not_read_logs(searcher: Searcher) -> None:
    _, browser = await searcher.world.signed_in(Role.COMPLIANCE)
    wrong = {
        "kind": "votes.recorded",
        "from": "x",
        "to": "0001-01-01T00:00+23:00",
        "before": "-1",
        "subject": "x" * 201,
    }
    for name, value in wrong.items():
        assert (await browser.client.get(f"{BASE}/search", params={"log": CELL, name: value})).status_code == 400
    assert (await browser.get("/search?log=nobodys")).status_code == 404
    for role in (Role.SUPPORT, Role.ADMIN):
        _, other = await searcher.world.signed_in(role)
        assert (await other.get(f"/search?log={CELL}")).status_code == 403


async def test_what_is_found_leads_to_its_proof(searcher: Searcher) -> None:
    made = case()
    await searcher.write(*made.entries)
    searched = await searcher.searched()
    page = (await searcher.get(subject=made.staff[0])).json()
    assert (page["log"], page["searched"]) == (CELL, searched)
    headers = {"authorization": f"Bearer {searcher.tokens.staff('u_tester', (Role.AUDITOR,))}"}
    for entry in page["entries"]:
        proved = await searcher.client.get(f"/v1/compliance/logs/{CELL}/entries/{entry['index']}", headers=headers)
        assert proved.json()["entry"] == entry["entry"]


async def test_who_may_not_read_logs_finds_nothing(searcher: Searcher) -> None:
    for role in (Role.SUPPORT, Role.ADMIN):
        assert (await searcher.get(role)).status_code == 403
    assert (await searcher.get(Role.AUDITOR)).status_code == 200
    assert (await searcher.client.get(f"/v1/compliance/logs/{CELL}/entries")).status_code == 401
    assert (await searcher.get(log="nobodys")).status_code == 404


@pytest.mark.parametrize(
    "params",
    [{"from_": "2027-01-01T00:00:00"}, {"to": "soon"}, {"cursor": "x"}, {"limit": 0}, {"limit": 101}, {"subject": ""}],
)
async def test_what_is_no_question_is_refused(searcher: Searcher, params: dict[str, Any]) -> None:
    answer = await searcher.get(**params)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")


async def test_a_search_that_was_destroyed_is_made_anew_and_answers_as_before(
    searcher: Searcher, servers: StackState, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = case()
    await searcher.write(*made.entries)
    size = await searcher.searched()
    rows, answer = await searcher.owner.fetch(ROWS), (await searcher.get(limit=100)).json()
    assert len(answer["entries"]) >= len(made.told)
    given = servers.settings_environment(AUDIT, environment=Environment.TEST)
    for name, value in (given | {"COMITIA_OBJECTS_FOLDER": str(searcher.folder)}).items():
        monkeypatch.setenv(name, value)

    async def reindexed(*options: str) -> tuple[int, str]:
        ran = await asyncio.to_thread(CliRunner().invoke, command_line, ["audit", "reindex", CELL, *options])
        return ran.exit_code, ran.output

    nothing = f"{size} entries of {CELL}: 0 places differed\n"
    assert await reindexed("--compare") == (0, nothing)
    first, second, third = (row["leaf_index"] for row in rows[-3:])
    invented = "INSERT INTO audit.search VALUES ($1, now(), 'survey.certified', 'staff:u_x', 's_x')"
    for statement, place, count in (
        ("DELETE FROM audit.search WHERE leaf_index >= $1", second, 2),
        ("UPDATE audit.search SET actor = 'staff:u_other' WHERE leaf_index = $1", first, 1),
        ("UPDATE audit.search SET occurred_at = occurred_at - interval '1 day' WHERE leaf_index = $1", third, 1),
        (invented, size + 5, 6),
    ):
        await searcher.owner.execute(statement, place)
        code, said = await reindexed("--compare")
        assert (code, f"{count} places differed" in said) == (1, True), said
        assert (await reindexed())[0] == 0
        assert await searcher.owner.fetch(ROWS) == rows
    for statement in ("TRUNCATE audit.search, audit.search_mark", "TRUNCATE audit.search"):
        await searcher.owner.execute(statement)
        assert (await searcher.get(limit=100)).json()["entries"] == []
        assert (await reindexed())[0] == 0
        assert (await searcher.get(limit=100)).json() == answer
    assert await reindexed("--compare") == (0, nothing)
    await searcher.owner.execute("TRUNCATE audit.search, audit.search_mark")
    assert set(await asyncio.gather(*(searcher.indexing.follow() for _ in range(4)))) == {size}  # as the worker does
    assert await searcher.owner.fetch(ROWS) == rows


async def test_a_search_says_nothing_beyond_what_it_has_taken_up_and_what_is_sealed(searcher: Searcher) -> None:
    await searcher.write(*case().entries)
    size, index = await searcher.searched(), PostgresLogSearch(searcher.owner)
    assert await index.extend(size + 1, size + 9, ()) == size
    assert await index.size() == size
    await searcher.owner.execute("UPDATE audit.search_mark SET indexed = $1", size + 9)
    planted = "INSERT INTO audit.search VALUES ($1, now(), 'survey.certified', 'staff:u_planted', 's_x')"
    await searcher.owner.execute(planted, size + 5)
    page = (await searcher.get(actor="staff:u_planted")).json()
    assert (page["entries"], page["searched"]) == ([], size)
    assert (await searcher.indexing.compare(repair=True)).first == f"place {size} is none of the log"
    assert await index.size() == size


async def test_an_entry_that_says_something_else_than_it_is_found_by_is_a_fault(searcher: Searcher) -> None:
    made = case()
    await searcher.write(*made.entries)
    await searcher.searched()
    change = "UPDATE audit.search SET subject = 's_planted' WHERE subject = $1"
    await searcher.owner.execute(change, made.staff[0])
    answer = await searcher.get(subject="s_planted")
    assert (answer.status_code, answer.json()["code"]) == (500, "audit_log_contradicted")
    assert (await searcher.indexing.compare(repair=True)).differ == 2
    assert await searcher.found(subject="s_planted") == []
    assert await searcher.found(subject=made.staff[0]) == made.told[-2:]
