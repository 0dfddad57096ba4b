"""Processes whose keys AWS KMS makes: people vote as everywhere, and keys are rotated by hand."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from typer.testing import CliRunner

from comitia.cli import app
from comitia.stack.applications import APPLICATIONS
from comitia.stack.servers import Servers
from comitia.stack.state import StackState
from integrations.keys.held_keys import HELD_S
from integrations.keys.purposes import KEK_BALLOT, KEK_ELIGIBILITY, SIGNING
from integrations.keys.wrapping import key_id_of
from tests.data_home import data_home
from tests.end_to_end.house import House, OpenSurvey, open_house
from tests.integrations.keys.places import Bucket, KeyServers, hung, key_servers, plain

USED = {"workers-voting", "workers-platform", "api-surveys", "api-eligibility", "api-votes"}
AWAY_S = 20.0


class KmsServers(Servers):
    """The servers of a stack whose keys are under KMS."""

    def __init__(self, folder: Path, bucket: Bucket) -> None:
        super().__init__(folder, environment={})
        self._bucket = bucket

    def _next_state(self) -> StackState:
        state = super()._next_state()
        keys = {"keys_kms": plain(self._bucket.kms), "keys_bucket": plain(self._bucket.settings)}
        return state.model_copy(update={"settings": {**state.settings, **keys}})


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KeyServers]:
    async with key_servers(tmp_path_factory.mktemp("key-servers")) as found:
        yield found


@pytest.fixture(scope="module")
def bucket(servers: KeyServers) -> Bucket:
    return servers.bucket()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def kms_house(bucket: Bucket) -> AsyncIterator[House]:
    used = [each for each in APPLICATIONS if each.name in USED]
    with tempfile.TemporaryDirectory(prefix="comitia-kms-", dir=data_home()) as folder:
        async with open_house(Path(folder), servers=KmsServers(Path(folder), bucket), applications=used) as opened:
            yield opened


async def test_people_vote_and_keys_are_rotated(kms_house: House, bucket: Bucket) -> None:
    house, survey = kms_house, await kms_house.open_survey()
    assert await _votes(house, survey) == 201

    command = ["keys", "rotate", "--data", str(house.state.folder)]
    rotated = await asyncio.to_thread(CliRunner().invoke, app, command)
    assert rotated.exit_code == 0, rotated.output
    assert "re-wrapped the keys of 1 surveys" in rotated.output

    row = await house.owners["eu"].fetchrow("SELECT wrapped_ballot_key FROM voting.survey")
    assert row is not None
    newest = key_id_of(row["wrapped_ballot_key"])
    assert f"made {newest}" in rotated.output
    assert newest.endswith("/2")
    assert await _votes(house, survey) == 201
    assert await house.counts(survey) == (2, 2, 2)


async def test_every_key_lies_in_the_bucket_and_none_in_a_folder(kms_house: House, bucket: Bucket) -> None:
    purposes = {name.rsplit("/", 2)[0] for name in bucket.names()}
    assert purposes >= {*SIGNING, KEK_BALLOT, KEK_ELIGIBILITY, "in-flight/eu", "pseudonym", "limits"}
    assert not kms_house.state.keys_folder.exists()


@pytest.mark.long
async def test_people_vote_on_while_the_key_service_is_away(kms_house: House, servers: KeyServers) -> None:
    survey = await kms_house.open_survey()
    assert await _votes(kms_house, survey) == 201
    with hung(servers):
        await asyncio.sleep(HELD_S + AWAY_S)  # also what is held for a minute is gone
        assert await _votes(kms_house, survey) == 201
    assert await kms_house.counts(survey) == (2, 2, 2)


async def _votes(house: House, survey: OpenSurvey) -> int:
    """Let one more person vote, over admission; return the status of the answer."""
    _, access = await house.voter()
    admitted = await house.ask_to_vote(survey.id, access)
    assert admitted.status_code == 201, admitted.text
    return (await house.cast(survey, admitted.json()["votingToken"], survey.ballot())).status_code
