"""Whoever of staff reads a case is written down: once for each of them, case and some minutes, and first."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from api.http.access import Principal
from api.support.reading import ONCE_IN, note_reading
from domain.audit import AuditEntry
from domain.errors import DomainError, ErrorCode
from domain.ids import new_registration_id
from domain.tokens import Role
from tests.answers import code_of
from tests.api.auth.registration_town import Town
from tests.api.support.support_world import Support
from tests.api.support.test_acting import at_provider
from tests.audited import leaves
from tests.conftest import OwnerPool

NOW = datetime(2027, 1, 1, tzinfo=UTC)
SUPPORT, COMPLIANCE = frozenset({Role.SUPPORT}), frozenset({Role.SUPPORT, Role.COMPLIANCE})


class Entries:
    """Entries by their keys, written or not."""

    def __init__(self, *, is_down: bool = False) -> None:
        self.by_key: dict[str, AuditEntry] = {}
        self._is_down = is_down

    async def note(self, key: str, entry: AuditEntry) -> str:
        if self._is_down:
            raise DomainError(ErrorCode.DIRECTORY_UNAVAILABLE)
        assert self.by_key.setdefault(key, entry) == entry
        return entry.outcome


async def test_a_page_that_renews_itself_is_one_entry_in_ten_minutes_and_everybody_elses_another() -> None:
    entries, case = Entries(), new_registration_id("eu")
    for seconds in range(0, 600, 3):
        await note_reading(entries, case, Principal("staff:u_x", SUPPORT), NOW + timedelta(seconds=seconds))
    assert len(entries.by_key) == 1
    for count, (subject, actor, roles, at) in enumerate(
        (
            (case, "staff:u_x", SUPPORT, NOW + ONCE_IN),
            (case, "staff:u_y", SUPPORT, NOW),
            (case, "staff:u_x", COMPLIANCE, NOW),
            (new_registration_id("eu"), "staff:u_x", SUPPORT, NOW),
        ),
        start=2,
    ):
        await note_reading(entries, subject, Principal(actor, roles), at)
        assert len(entries.by_key) == count


async def test_nothing_is_shown_whose_entry_is_not_written() -> None:
    with pytest.raises(DomainError) as refused:
        await note_reading(Entries(is_down=True), new_registration_id("eu"), Principal("staff:u_x", SUPPORT), NOW)
    assert refused.value.code is ErrorCode.DIRECTORY_UNAVAILABLE


async def test_whoever_reads_a_case_is_written_down_by_name_and_role(
    town: Town, support: Support, owner_pool: OwnerPool
) -> None:
    pool, case = await owner_pool("eu"), await at_provider(town)
    async with leaves(pool, "support GET /v1/support/cases/{case_id}", subject=case):
        await support.found(f"cases/{case}")
    async with leaves(pool, "support GET /v1/support/cases/{case_id}/timeline", subject=case):
        await support.found(f"cases/{case}/timeline", Role.COMPLIANCE)
    rows = await pool.fetch("SELECT body FROM audit.entry WHERE kind = 'history.read' AND body->>'subject' = $1", case)
    told = {"actor": "staff:u_tester", "outcome": "done", "subject": case}
    found = {body["role"]: body for body in (json.loads(row["body"]) for row in rows)}
    assert found == {role: {**told, "role": role} for role in ("support", "compliance")}


async def test_of_what_nobody_is_shown_there_is_no_entry(support: Support, owner_pool: OwnerPool) -> None:
    pool, case = await owner_pool("eu"), new_registration_id("eu")
    for path in (f"cases/{case}", f"cases/{case}/timeline"):
        assert code_of(await support.get(path)) == (404, "case_not_found")
        assert (await support.get(path, Role.ADMIN)).status_code == 403
    assert await pool.fetchval("SELECT count(*) FROM audit.entry WHERE body->>'subject' = $1", case) == 0
