"""A survey's end through every process: its certificate, what a third party checks, and what refuses one."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from typer.testing import CliRunner

from comitia.cli import app as command_line
from comitia.keys import rotate_keys
from comitia.stack.state import CATALOGUE, CELLS
from domain.contracts.keys import RotateKeysInput
from integrations.keys.purposes import KEY_ENCRYPTION_KEYS
from integrations.settings import Environment
from tests.audited import leaves
from tests.end_to_end.house import House, OpenSurvey, eventually

WITHIN_S = 90.0  # the machine is shared, and a clock's margin is part of every end
Json = dict[str, Any]


async def certification(house: House, survey: OpenSurvey) -> Json:
    answer = await house.clients["surveys"].get(
        f"/v1/internal/surveys/{survey.id}/certification", headers=house.admin()
    )
    assert answer.status_code in {200, 404}, answer.text
    return dict(answer.json())


async def reached(house: House, survey: OpenSurvey, stage: str, attempt: int = 1) -> Json:
    async def look() -> Json | None:
        found = await certification(house, survey)
        return found if (found.get("stage"), found.get("attempt")) == (stage, attempt) else None

    return dict(await eventually(look, within_s=WITHIN_S, what=f"{stage} of {survey.id}"))


async def certify(house: House, survey: OpenSurvey) -> None:
    owner = house.owners[CATALOGUE]
    async with leaves(owner, "surveys PUT /v1/internal/surveys/{survey_id}/certify", subject=survey.id):
        answer = await house.clients["surveys"].put(f"/v1/internal/surveys/{survey.id}/certify", headers=house.admin())
    assert answer.status_code == 200, answer.text


async def cast(house: House, survey: OpenSurvey, choices: list[int], cell: str = "eu") -> list[httpx.Response]:
    return await asyncio.gather(
        *(house.cast(survey, house.token(survey, cell), survey.ballot(choice, "words")) for choice in choices)
    )


@asynccontextmanager
async def published(house: House, survey: OpenSurvey, folder: Path) -> AsyncIterator[tuple[Json, list[str]]]:
    """The certificate, and what a third party gives the command: files that anybody may fetch."""
    client = house.clients["surveys"]
    certificate = await client.get(f"/v1/surveys/{survey.id}/certificate")
    assert certificate.status_code == 200, certificate.text
    (folder / "certificate.json").write_bytes(certificate.content)
    (folder / "keys.json").write_bytes((await client.get("/v1/certificate-keys")).content)
    arguments = ["verify", "certificate", str(folder / "certificate.json"), "--key", str(folder / "keys.json")]
    for file in (await client.get(f"/v1/surveys/{survey.id}/ballots")).json()["files"]:
        target = folder / f"ballots-{file['number']}.jsonl"
        target.write_bytes((await client.get(file["url"])).content)
        arguments += ["--ballots", str(target)]
    yield json.loads(certificate.content), arguments


async def tamper(house: House, cell: str, table: str, statement: str, *values: Any) -> None:
    """Do to a ledger what only its owner can, behind the triggers."""
    async with house.owners[cell].acquire() as connection, connection.transaction():
        await connection.execute(f"ALTER TABLE voting.{table} DISABLE TRIGGER USER")
        await connection.execute(statement, *values)
        await connection.execute(f"ALTER TABLE voting.{table} ENABLE TRIGGER USER")


async def test_a_finished_survey_is_certified_and_anybody_can_check_it(house: House, tmp_path: Path) -> None:
    survey = await house.open_survey("Certified")
    answers = [*await cast(house, survey, [0, 0, 1]), *await cast(house, survey, [2], "us")]
    assert {answer.status_code for answer in answers} <= {201, 202}, [answer.text for answer in answers]
    client = house.clients["surveys"]
    assert (await client.get(f"/v1/surveys/{survey.id}/certificate")).json()["code"] == "survey_not_certified"
    await house.finish(survey)
    state = await reached(house, survey, "certified")

    async with published(house, survey, tmp_path) as (envelope, arguments):
        certificate = envelope["certificate"]
        assert certificate["totals"]["options"] == dict(zip(survey.options, (2, 1, 1), strict=True))
        assert certificate["participations"] == certificate["ballots"] == 4
        assert {cell["cell"]: cell["closedAt"] <= cell["sealedAt"] for cell in certificate["cells"]} == {
            "eu": True,
            "us": True,
        }
        assert envelope["id"] == state["certificateId"]
        good = await asyncio.to_thread(CliRunner().invoke, command_line, arguments)
        assert good.exit_code == 0, good.output
        ballots = tmp_path / "ballots-1.jsonl"
        assert b"words" not in ballots.read_bytes()
        ballots.write_bytes(ballots.read_bytes().replace(f'"{survey.options[1]}"'.encode(), b'"1"'))
        bad = await asyncio.to_thread(CliRunner().invoke, command_line, arguments)
        assert bad.exit_code == 1
        assert "FAIL" in bad.output

    results = await eventually_certified(house, survey)
    assert [option["votes"] for option in results["questions"][0]["options"]] == [2, 1, 1]
    assert results["certificateId"] == state["certificateId"]
    with house.frozen("redis"):  # nobody asks it any more
        assert (await house.results(survey))["totalResponses"] == 4


async def eventually_certified(house: House, survey: OpenSurvey) -> Json:
    async def look() -> Json | None:
        found = await house.results(survey)
        return found if "certificateId" in found else None

    return dict(await eventually(look, what="certified results"))


async def test_a_stuffed_ballot_keeps_the_certificate_back_until_it_is_taken_out(house: House) -> None:
    survey = await house.open_survey("Stuffed")
    assert {answer.status_code for answer in await cast(house, survey, [0, 1])} <= {201, 202}
    await house.settled(survey, 2)
    row = await house.owners["eu"].fetchrow(
        "SELECT gateway_id, number, sealed FROM voting.ballot WHERE survey_id = $1 LIMIT 1", survey.id
    )
    assert row is not None
    ballot_id = uuid4()
    values = (survey.id, ballot_id, row["gateway_id"], row["number"], row["sealed"])
    await house.owners["eu"].execute(
        "INSERT INTO voting.ballot (survey_id, ballot_id, gateway_id, number, sealed) VALUES ($1, $2, $3, $4, $5)",
        *values,
    )
    await house.finish(survey)
    state = await reached(house, survey, "uncertified")
    batch = f"{row['gateway_id'].hex()}-{row['number']}"
    assert any(batch in difference["row"] for difference in state["differences"]), state
    assert "certificateId" not in await house.results(survey)
    await tamper(house, "eu", "ballot", "DELETE FROM voting.ballot WHERE ballot_id = $1", ballot_id)
    await certify(house, survey)
    await reached(house, survey, "certified", attempt=2)


async def test_a_vote_accepted_just_before_the_end_is_in_the_certificate(house: House) -> None:
    survey = await house.open_survey("Accepted late")

    async def accepted() -> bool:
        answer = await house.cast(survey, house.token(survey), survey.ballot(1))
        assert answer.status_code in {202, 503}, answer.text  # a cell that records nothing says so before it takes more
        return answer.status_code == 202

    async with house.locked_ledger(survey, "eu"):
        await eventually(accepted, what="a vote accepted")
        finishing = asyncio.create_task(house.finish(survey))
        await asyncio.wait({finishing}, timeout=1)  # the cell's end waits for the ledger
        assert await house.counts(survey) == (0, 0, 0)
    await finishing
    await reached(house, survey, "certified")
    certificate = (await house.clients["surveys"].get(f"/v1/surveys/{survey.id}/certificate")).json()["certificate"]
    assert certificate["totals"]["options"] == {survey.options[1]: 1}


async def test_votes_in_flight_while_it_closes_are_counted_or_were_told_that_it_is_closed(house: House) -> None:
    surveys = [await house.open_survey(f"Raced {n}") for n in range(4)]

    async def race(survey: OpenSurvey) -> None:
        votes = [asyncio.create_task(cast(house, survey, [0] * 10, cell)) for cell in CELLS]
        await asyncio.sleep(0.05)
        await house.finish(survey)
        answers = [answer for each in votes for answer in await each]
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) <= {201, 202, 409, 503}, [answer.text for answer in answers]
        state = await reached(house, survey, "certified")
        assert not state["differences"]
        found = (await house.clients["surveys"].get(f"/v1/surveys/{survey.id}/certificate")).json()["certificate"]
        assert found["participations"] == found["totals"]["ballots"] >= statuses.count(201)
        assert await house.counts(survey) == (found["ballots"],) * 3

    await asyncio.gather(*map(race, surveys))


async def test_a_cell_that_is_down_at_the_end_delays_the_certificate_only(house: House) -> None:
    survey = await house.open_survey("A cell down")
    await asyncio.gather(cast(house, survey, [0], "us"), cast(house, survey, [1], "eu"))
    await house.settled(survey, 2)
    late = house.token(survey)
    async with house.cell_cut_off("us"):
        await house.finish(survey)

        async def is_closed() -> bool:
            answer = await house.cast(survey, late)
            return answer.status_code == 409 and answer.json()["code"] == "survey_closed"

        async def is_sealed() -> bool:
            sealed = "SELECT sealed_at IS NOT NULL FROM voting.survey WHERE survey_id = $1"
            return bool(await house.owners["eu"].fetchval(sealed, survey.id))

        await eventually(is_closed, what="closed in the other cell")
        await eventually(is_sealed, within_s=WITHIN_S, what="sealed in the other cell")
        assert (await certification(house, survey))["stage"] == "draining"
        answer = await house.clients["surveys"].get(f"/v1/surveys/{survey.id}")
        ended_at = answer.json()["finishDate"]
        assert ended_at is not None
    await reached(house, survey, "certified")
    found = (await house.clients["surveys"].get(f"/v1/surveys/{survey.id}/certificate")).json()["certificate"]
    closed = {cell["cell"]: cell["closedAt"] for cell in found["cells"]}
    assert datetime.fromisoformat(ended_at) <= datetime.fromisoformat(closed["eu"])
    assert datetime.fromisoformat(closed["eu"]) < datetime.fromisoformat(closed["us"])
    assert found["ballots"] == 2


async def test_a_paused_survey_says_so_and_takes_votes_again(house: House) -> None:
    survey = await house.open_survey("Paused")
    steer = f"/v1/internal/surveys/{survey.id}"
    answer = await house.clients["surveys"].put(f"{steer}/pause", headers=house.admin())
    assert answer.status_code == 200, answer.text

    async def says(status: int, code: str | None) -> None:
        async def look() -> bool:
            found = await house.cast(survey, house.token(survey))
            return found.status_code == status and (code is None or found.json()["code"] == code)

        await eventually(look, what=f"{status} {code}")

    await says(503, "survey_paused")
    assert (await house.clients["surveys"].put(f"{steer}/resume", headers=house.admin())).status_code == 200
    await says(201, None)
    rows = await house.owners["catalogue"].fetch(
        "SELECT action, actor FROM catalogue.staff_action WHERE survey_id = $1 ORDER BY action_id", survey.id
    )
    assert [row["action"] for row in rows] == ["create", "publish", "pause", "resume"]
    assert {row["actor"] for row in rows} == {"staff:u_tester"}


@pytest.mark.parametrize("visibility", ["staff"])
async def test_what_only_staff_may_see_is_not_published(house: House, visibility: str) -> None:
    survey = await house.open_survey("Hidden", visibility=visibility)
    await house.finish(survey)
    await reached(house, survey, "certified")
    client = house.clients["surveys"]
    for path in ("certificate", "ballots", "ballots/1"):
        answer = await client.get(f"/v1/surveys/{survey.id}/{path}")
        assert (answer.status_code, answer.json()["code"]) == (403, "results_not_visible")
    answer = await client.get(f"/v1/internal/surveys/{survey.id}/certificate", headers=house.admin())
    assert answer.json()["certificate"]["ballots"] == 0


async def test_key_encryption_keys_change_under_an_open_survey(house: House) -> None:
    survey = await house.open_survey("Rotated")
    assert (await house.cast(survey, house.token(survey))).status_code in {201, 202}
    settings = house.state.settings_for(environment=Environment.TEST)
    rotated = await rotate_keys(settings, RotateKeysInput(purposes=KEY_ENCRYPTION_KEYS, cells=CELLS, age_days=0))
    assert (len(rotated.made), rotated.failed) == (3, 0)
    assert rotated.rewrapped >= 1
    ended = RotateKeysInput(purposes=KEY_ENCRYPTION_KEYS, cells=CELLS, grace_days=0)
    assert len((await rotate_keys(settings, ended)).destroyed) >= 2
    _, access = await house.voter("us")
    admitted = await house.ask_to_vote(survey.id, access)
    assert admitted.status_code == 201, admitted.text
    assert (await house.cast(survey, admitted.json()["votingToken"])).status_code in {201, 202}
    await house.finish(survey)
    await reached(house, survey, "certified")  # the recount unwraps what was wrapped anew
    certificate = (await house.clients["surveys"].get(f"/v1/surveys/{survey.id}/certificate")).json()["certificate"]
    assert certificate["ballots"] == 2
