"""W3C context of a kept trace goes with the vote through Temporal; a vote that nobody traces carries nothing."""

from base64 import urlsafe_b64decode

import httpx
from temporalio.api.common.v1 import Payload

from domain.ids import BatchId, submit_votes_workflow_id
from integrations.settings import Settings
from integrations.temporal.client import connect
from integrations.temporal.codec import EncryptionCodec
from tests.api.votes.conftest import CELL, Votes
from tests.voting_world import Booth, TokenDesk, voting_keys

TRACE = "0af7651916cd43dd8448eb211c80319c"


async def start_headers(settings: Settings, answer: httpx.Response) -> dict[str, Payload]:
    place = urlsafe_b64decode(answer.headers["location"].removeprefix("/v1/submissions/"))
    batch = BatchId(place[:16], int.from_bytes(place[16:24], "big"))
    client = await connect(settings.cells[CELL].temporal, EncryptionCodec(voting_keys(settings), f"in-flight/{CELL}"))
    history = await client.get_workflow_handle(submit_votes_workflow_id(CELL, batch)).fetch_history()
    found = history.events[0].workflow_execution_started_event_attributes.header.fields
    codec = client.data_converter.payload_codec
    assert codec is not None
    return {name: (await codec.decode([payload]))[0] for name, payload in found.items()}


def headers_of(booth: Booth, desk: TokenDesk, flags: str) -> dict[str, str]:
    return {
        "authorization": f"Bearer {desk.token(booth.survey.id, CELL)}",
        "traceparent": f"00-{TRACE}-b7ad6b7169203331-{flags}",
    }


async def cast(votes: Votes, booth: Booth, desk: TokenDesk, flags: str) -> httpx.Response:
    headers = headers_of(booth, desk, flags)
    body = {"answers": [{"question": "1", "options": ["1"]}]}
    return await votes.client.post(f"/v1/surveys/{booth.survey.id}/vote", json=body, headers=headers)


async def test_a_kept_trace_goes_with_the_vote(
    votes: Votes, votes_settings: Settings, booth: Booth, desk: TokenDesk
) -> None:
    headers = await start_headers(votes_settings, await cast(votes, booth, desk, "01"))
    assert TRACE.encode() in headers["_tracer-data"].data


async def test_a_kept_trace_goes_with_a_vote_in_steps(
    votes: Votes, votes_settings: Settings, booth: Booth, desk: TokenDesk
) -> None:
    headers, address = headers_of(booth, desk, "01"), f"/v1/surveys/{booth.survey.id}/answers"
    first = await votes.client.post(address, json={"question": "1", "option": "1"}, headers=headers)
    session = first.json()["surveyAnswer"]["id"]
    sent = await start_headers(votes_settings, await votes.client.put(f"{address}/{session}/finish", headers=headers))
    assert TRACE.encode() in sent["_tracer-data"].data


async def test_a_vote_that_nobody_traces_carries_nothing(
    votes: Votes, votes_settings: Settings, booth: Booth, desk: TokenDesk
) -> None:
    assert not await start_headers(votes_settings, await cast(votes, booth, desk, "00"))
