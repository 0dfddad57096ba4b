"""How often a voter, a device and a network may ask for voting tokens, with Redis and without."""

import time
from collections.abc import AsyncIterator

import pytest_asyncio

from domain.ids import new_survey_id
from integrations.addresses import RedisAddress
from integrations.keys.digests import digest
from integrations.keys.dpop_keys import ProofKey
from integrations.postgres.roles import IDENTITY
from tests.api.eligibility.conftest import PUBLIC_URL, Eligibility, eligibility_service
from tests.conftest import SettingsFor
from tests.identity_world import IdentityWorld


async def test_a_farm_of_voters_on_one_device_is_challenged_then_denied(
    eligibility: Eligibility, identity_world: IdentityWorld
) -> None:
    survey_id = await identity_world.survey()
    hour = -1.0
    while hour != time.time() // 3600:  # once more, with another device, where an hour began meanwhile
        hour, device, codes = time.time() // 3600, f"device-{new_survey_id()}", []
        denied_before = eligibility.metric("fraud_denied_total")
        for _ in range(26):
            token = identity_world.token(await identity_world.voter(), device=digest(device.encode()))
            answer = await eligibility.ask(survey_id, token, X_Device_Id=device)
            codes.append("" if answer.status_code == 201 else answer.json()["code"])
    assert codes == [""] * 5 + ["step_up_required"] * 18 + ["risk_denied"] * 3
    assert eligibility.metric("fraud_denied_total") == denied_before + 3
    assert eligibility.metric('risk_decisions_total{decision="CHALLENGE"}') >= 18


async def test_a_voter_who_asks_without_end_is_stopped(eligibility: Eligibility, identity_world: IdentityWorld) -> None:
    survey_id, minute = await identity_world.survey(), -1.0
    while minute != time.time() // 60:
        minute, token = time.time() // 60, identity_world.token(await identity_world.voter())
        codes = []
        for _ in range(121):
            answer = await eligibility.ask(survey_id, token)
            codes.append("" if answer.status_code == 201 else answer.json()["code"])
    assert codes == [""] * 29 + ["step_up_required"] * 90 + ["risk_denied"] * 2


async def test_nobody_asks_a_database_who_is_over_the_limit(
    settings_for: SettingsFor, identity_world: IdentityWorld
) -> None:
    limits = {"admission-voter": (2, 4000), "admission-device": (3, 4000), "failure-address": (2, 4000)}
    survey_id, device, key = await identity_world.survey(), digest(b"a-device"), ProofKey.generate()
    voters = [await identity_world.voter() for _ in range(3)]
    tokens = [identity_world.token(voter, device=device) for voter in voters]
    lookups = 'db_query_seconds_count{database="eu",query="candidates"}'
    async with eligibility_service(settings_for(IDENTITY, public_url=PUBLIC_URL, limits=limits)) as eligibility:

        async def ask(token: str) -> tuple[int, str]:
            answer = await eligibility.ask(survey_id, token, X_Device_Id="a-device")
            return answer.status_code, answer.headers.get("ratelimit-policy", '""').split('"')[1]

        assert [await ask(tokens[0]) for _ in range(2)] == [(201, "admission-voter")] * 2
        before = eligibility.metric(lookups)
        assert await ask(tokens[0]) == (429, "admission-voter")
        assert eligibility.metric(lookups) == before
        assert await ask(tokens[1]) == (201, "admission-voter")
        assert await ask(tokens[2]) == (429, "admission-device")
        stolen = identity_world.token(voters[2], jkt=key.jkt)  # whoever has no key for it only harms himself
        assert [await ask(stolen) for _ in range(3)] == [(401, "")] * 2 + [(429, "failure-address")]
        elsewhere = await eligibility.ask(survey_id, identity_world.token(voters[2]))
        assert (elsewhere.status_code, elsewhere.headers["ratelimit"].split(";")[1]) == (201, "r=0")
        assert eligibility.metric('limit_refusals_total{policy="admission-voter",subject="voter"}') == 1


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def alone(settings_for: SettingsFor, identity_world: IdentityWorld) -> AsyncIterator[Eligibility]:
    """The service where no Redis answers."""
    assert identity_world
    settings = settings_for(IDENTITY, public_url=PUBLIC_URL)
    nowhere = RedisAddress(host="127.0.0.1", port=1)
    cells = {name: cell.model_copy(update={"redis": nowhere}) for name, cell in settings.cells.items()}
    async with eligibility_service(settings.model_copy(update={"cells": cells})) as service:
        yield service


class TestWithoutRedis:
    """Losing Redis stops no voting; the same rules hold by what this process sees."""

    async def test_voters_are_admitted(self, alone: Eligibility, identity_world: IdentityWorld) -> None:
        survey_id = await identity_world.survey()
        for _ in range(3):
            token = identity_world.token(await identity_world.voter())
            assert (await alone.ask(survey_id, token)).status_code == 201
        assert alone.metric("risk_unavailable_total") == 0

    async def test_limits_hold(self, alone: Eligibility, identity_world: IdentityWorld) -> None:
        survey_id, hour = await identity_world.survey(), -1.0
        while hour != time.time() // 3600:
            hour, device, codes = time.time() // 3600, new_survey_id(), []
            for _ in range(7):
                token = identity_world.token(await identity_world.voter(), device=digest(device.encode()))
                codes.append((await alone.ask(survey_id, token, X_Device_Id=device)).status_code)
        assert codes == [201] * 5 + [403] * 2
