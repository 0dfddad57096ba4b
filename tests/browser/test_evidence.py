"""What compliance takes along, in a real Chromium: a case's evidence, good by public keys alone, and a re-judgement."""

import asyncio
from pathlib import Path

import pytest
from typer.testing import CliRunner

from api.compliance.composition import BASE
from comitia.cli import app as command_line
from domain.contracts.login import LoginDecision
from domain.tokens import Role
from integrations.postgres.logins import PostgresLogins
from tests.api.auth.registration_town import Town
from tests.api.compliance.officer import CELL, Officer, officer
from tests.api.compliance.test_bundles import evidence_console
from tests.api.compliance.test_console import long_work, open_office
from tests.browser.conftest import listening, opened_by_staff
from tests.browser.test_support import accessible
from tests.conftest import SettingsFor
from tests.integrations.postgres.test_logins import login
from tests.workflows.test_rejudge_decisions import SINCE, SOON, STRICT, Kept, soon
from tests.workflows.test_replay_executions import Executions

__all__ = ["officer"]


async def test_evidence_is_taken_and_verified_by_command(
    town: Town, officer: Officer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("comitia.evidence.identity_settings", lambda *_: officer.settings)
    made = login(LoginDecision.DENY)
    await PostgresLogins(town.cells[CELL].pool).record(made)
    await officer.seal()
    case, place = made.request.attempt_id, listening()
    async with (
        evidence_console(town, officer, place[1]) as (world, app),
        opened_by_staff(app, world, place, tmp_path, BASE, "Compliance") as staff,
    ):
        _, page = await staff.signed_in(Role.COMPLIANCE)
        await page.get_by_label("Case id, or submission id of a vote").fill(case)
        await page.get_by_label("Why").select_option("court")
        await accessible(page)
        async with page.expect_download() as kept:
            await page.get_by_role("button", name="Take it").click()
        taken = await kept.value
        assert taken.suggested_filename == f"{case}.zip"
        await taken.save_as(tmp_path / "case.zip")
        assert staff.complaints == []

    async def command(*arguments: str | Path) -> tuple[int, str]:
        result = await asyncio.to_thread(CliRunner().invoke, command_line, list(map(str, arguments)))
        return result.exit_code, result.output

    (tmp_path / "public.json").write_text((await command("evidence", "keys"))[1])
    code, said = await command("verify", "bundle", tmp_path / "case.zip", "--keys", tmp_path / "public.json")
    assert (code, said.splitlines()[-1]) == (0, "This bundle is good."), said


async def test_what_would_come_out_otherwise_is_shown_with_counts_and_a_sample(
    settings_for: SettingsFor, tmp_path: Path
) -> None:
    place = listening()
    async with (
        open_office(settings_for, tmp_path, place[1]) as office,
        long_work(office, Executions(), Kept(*soon(30)), place[1]) as (world, app),
        opened_by_staff(app, world, place, tmp_path, BASE, "Compliance") as staff,
    ):
        _, page = await staff.signed_in(Role.COMPLIANCE)
        await page.get_by_label("In the cell", exact=True).last.fill("eu")
        await page.get_by_label("Made from (UTC)").fill(f"{SINCE:%Y-%m-%dT%H:%M}")
        await page.get_by_label("Made before (UTC)").fill(f"{SOON:%Y-%m-%dT%H:%M}")
        await page.get_by_label("Policy: a version").fill(STRICT)
        await page.get_by_role("button", name="Rejudge").click()
        await page.get_by_text("finished", exact=True).wait_for()
        await page.get_by_role("link", name="Look again").click()
        await page.get_by_role("heading", name="Some of them").wait_for()
        assert await page.get_by_text("ALLOW to CHALLENGE").count() == 1
        assert await page.get_by_role("row", name="a_eu_").count() > 0
        await accessible(page)
        assert staff.complaints == []
