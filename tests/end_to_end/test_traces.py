"""After an election nothing that is kept says who chose what, who took part, or carries a token."""

import base64
import secrets
from functools import partial
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaProducer
from temporalio.api.common.v1 import Payload
from temporalio.client import WorkflowHandle

from comitia.stack.ports import HOST
from integrations.addresses import RedisAddress
from integrations.keys.digests import digest
from integrations.redis.connection import open_redis
from tests.end_to_end.house import REGION, House, OpenSurvey, batch_of, claims_of, eventually, nullifier_of
from tests.end_to_end.traces import Kept, everything, kinds, standing, unpermitted

KINDS = {"log", "file", "postgres", "temporal", "redis", "kafka", "spans", "metrics"}


def mark(what: str) -> str:
    """Return a value that stands nowhere else."""
    return f"{what}-{secrets.token_hex(10)}"


class Election:
    """One survey with votes of every kind, and everything that was said in it; `refused` are the answers of errors."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.option, self.text = mark("option"), mark("freetext")
        self.markers: dict[str, bytes] = {"the text of an option": self.option.encode()}
        self.refused: list[httpx.Response] = []

    def note(self, name: str, value: str | bytes) -> None:
        """Write down what must not be found."""
        self.markers[f"{name} ({len(self.markers)})"] = value if isinstance(value, bytes) else value.encode()

    async def hold(self) -> OpenSurvey:
        """Let people vote well and badly."""
        house = self.house
        survey = await house.open_survey("An election", (self.option, "Another"))
        self.note("the answer in words", self.text)
        self.note("a staff token", house.admin()["authorization"].removeprefix("Bearer "))
        for cell in ("eu", "us"):
            await self.vote_whole(survey, cell)
        await self.vote_in_steps(survey)
        async with house.locked_ledger(survey, "eu"):  # what is written when recording fails, too
            token = house.token(survey)
            self.note_token("a late voting token", token)
            assert (await house.cast(survey, token, survey.ballot(0, self.text))).status_code == 202
        await house.settled(survey, 4)
        return survey

    def note_token(self, name: str, token: str) -> None:
        """Write down a token: its signature is enough to know it again, and a voting token's nullifier is in it."""
        self.note(f"{name}'s signature", token.rpartition(".")[2])
        self.note(f"{name}'s claims", token.split(".")[1])
        claims = claims_of(token)
        if "nullifier" in claims:
            self.note("a nullifier", nullifier_of(token))
            self.note("an evidence", base64.urlsafe_b64decode(claims["evidence"] + "=="))

    async def admit(self, survey: OpenSurvey, cell: str) -> str:
        """Admit a new voter on a device."""
        house, device = self.house, mark("device")
        voter_id, _ = await house.voter(cell)
        access = house.access.voter(voter_id, cell, REGION, device=digest(device.encode()))
        person = await house.owners[cell].fetchval("SELECT person_id FROM identity.voter WHERE voter_id = $1", voter_id)
        self.note("a voter", voter_id)
        self.note("a person", person)
        self.note("a device", device)
        self.note_token("an access token", access)
        self.refused.append(await house.ask_to_vote(survey.id, access))  # without its device
        admitted = await house.ask_to_vote(survey.id, access, **{"x-device-id": device})
        assert admitted.status_code == 201, admitted.text
        token: str = admitted.json()["votingToken"]
        self.note_token("a voting token", token)
        return token

    async def vote_whole(self, survey: OpenSurvey, cell: str) -> None:
        """Cast a ballot, again, and in ways that are refused."""
        house, token, key = self.house, await self.admit(survey, cell), mark("key")
        self.note("an idempotency key", key)
        whole = survey.ballot(0, self.text)
        unknown, far_too_long = survey.ballot(0, self.text), survey.ballot(0, self.text * 60)
        unknown["answers"][0]["options"] = [self.text]
        for body in (unknown, far_too_long, {"answers": self.text}, {**whole, self.text: 1}):
            self.refused.append(await house.cast(survey, token, body, key))
        voted = await house.cast(survey, token, whole, key)
        assert voted.status_code == 201, voted.text
        self.note("a receipt", voted.json()["receipt"])
        again = await house.cast(survey, token, survey.ballot(1), key)
        assert (again.status_code, again.json()["receipt"]) == (
            201,
            voted.json()["receipt"],
        )  # says nothing of a choice
        self.refused.append(await house.cast(survey, token, whole, mark("other-key")))
        self.refused.append(await house.cast(survey, token[:-8] + "AAAAAAAA", whole, key))
        read = await house.clients["votes"].get(voted.headers["location"], headers={"authorization": f"Bearer {token}"})
        assert read.json()["status"] == "confirmed"

    async def vote_in_steps(self, survey: OpenSurvey) -> None:
        """Cast a ballot answer by answer."""
        house, token = self.house, await self.admit(survey, "eu")
        headers, path = {"authorization": f"Bearer {token}"}, f"/v1/surveys/{survey.id}/answers"
        step = {"question": survey.question, "option": survey.options[0], "text": self.text}
        first = await house.clients["votes"].post(path, json=step, headers=headers)
        if first.status_code != 201:
            step = {**step, "text": ""}
            self.refused.append(first)
            first = await house.clients["votes"].post(path, json=step, headers=headers)
        assert first.status_code == 201, first.text
        answer_id = first.json()["surveyAnswer"]["id"]
        self.note("an answer's id", answer_id)
        unknown = {**step, "surveyAnswerId": answer_id, "option": self.text}
        self.refused.append(await house.clients["votes"].post(path, json=unknown, headers=headers))
        self.refused.append(
            await house.clients["votes"].put(f"{path}/{answer_id}/finish", headers={"authorization": "Bearer x"})
        )
        finished = await house.clients["votes"].put(f"{path}/{answer_id}/finish", headers=headers)
        assert finished.status_code == 200, finished.text


# What is public, and where identities live. Everything else that is marked may stand nowhere.
def allowed(markers: dict[str, bytes]) -> dict[str, str]:
    """Return, for each marker that may stand somewhere, the pattern of those places."""
    places = {
        "the text of an option": r"postgres (catalogue catalogue\.|\w+ voting\.survey$)",
        "a voter ": r"postgres \w+ identity\.voter$",
        "a person ": r"postgres \w+ identity\.(voter|person|roll)$",
        "a nullifier": r"postgres \w+ voting\.(participation|answer_session)$",
        "an evidence": r"postgres \w+ voting\.participation$",
    }
    return {name: places[start] for name in markers for start in places if name.startswith(start)}


async def test_nothing_that_is_kept_joins_a_voter_and_a_choice(house: House) -> None:
    election = Election(house)
    survey = await election.hold()
    await eventually(lambda: _traced(house, survey), what="the spans of these votes")
    kept = await everything(house)

    assert kinds(kept) == KINDS
    seen = standing(kept, election.markers)
    assert unpermitted(seen, allowed(election.markers)) == set()
    # it did look where things are: what may be there is found
    assert {name.rpartition(" (")[0] or name for name, _ in seen} == {
        "the text of an option",
        "a voter",
        "a person",
        "a nullifier",
        "an evidence",
    }
    control = standing(kept, {"survey": survey.id.encode()})
    assert {place.split()[0] for _, place in control} == KINDS - {"metrics"}  # whose labels are few
    # nor does any error repeat what was sent
    assert len(election.refused) > 10
    assert min(answer.status_code for answer in election.refused) >= 400
    answers = [
        Kept(f"answer {answer.status_code}", answer.content + str(answer.headers).encode())
        for answer in election.refused
    ]
    # but for the address that was asked, which names the answer to whoever sent it
    named = standing(answers, election.markers)
    assert unpermitted(named, dict.fromkeys(_answer_ids(election), "answer")) == set()


async def _traced(house: House, survey: OpenSurvey) -> bool:
    of_it = [body for body in tuple(house.spans.received) if survey.id.encode() in body]
    return all(any(service in body for body in of_it) for service in (b"eligibility", b"votes"))


def _answer_ids(election: Election) -> list[str]:
    return [name for name in election.markers if name.startswith("an answer's id")]


async def test_a_trace_that_is_planted_is_found(house: House) -> None:
    planted = mark("planted")
    (house.logs / "planted.log").write_text(f'{{"message":"vote","token":"{planted}"}}\n')
    redis = open_redis(RedisAddress(host=HOST, port=house.state.ports["redis"], database=1), connections=1)
    await redis.hset(mark("planted-key"), "field", base64.b64encode(b"x" + planted.encode()))
    await redis.aclose()
    producer = AIOKafkaProducer(bootstrap_servers=f"{HOST}:{house.state.ports['kafka']}")
    await producer.start()
    await producer.send_and_wait("eu.votes.attempted.v1", b"{}", headers=[("voter", planted.encode())])
    await producer.stop()
    await house.owners["us"].execute(
        "INSERT INTO audit.entry (kind, body) VALUES ('planted', jsonb_build_object('bytes', $1::text))",
        planted.encode().hex(),
    )
    execution = await house.temporal["us"].start_workflow(
        "Nothing", {"voter": planted}, id=mark("planted-workflow"), task_queue="nobody", memo={"voter": planted}
    )
    try:
        found = await eventually(lambda: _found(house, planted), what="every planted trace")
        assert found == {
            "marker: log planted.log",
            "marker: redis us value",
            "marker: kafka eu.votes.attempted.v1 headers",
            "marker: postgres us audit.entry",
            "marker: temporal us listed Nothing",
            "marker: temporal us history Nothing",
        }
    finally:
        await execution.terminate()
        (house.logs / "planted.log").unlink()


async def _found(house: House, planted: str) -> set[str]:
    found = unpermitted(standing(await everything(house), {"marker": planted.encode()}), {})
    found = {place for place in found if ": file " not in place}
    return found if len(found) == 6 else set()


@pytest.mark.parametrize("before", [b"", b"a", b"ab", b"abc"])
@pytest.mark.parametrize("encode", [bytes, bytes.hex, base64.b64encode, base64.urlsafe_b64encode])
def test_a_value_is_known_again_in_every_form(before: bytes, encode: Any) -> None:
    marker = bytes(range(200, 232))
    content = encode(before + marker + b"behind")
    found = standing([Kept("here", content.encode() if isinstance(content, str) else content)], {"it": marker})
    assert found == {("it", "here")}
    assert standing([Kept("here", bytes(reversed(marker)))], {"it": marker}) == set()


async def test_what_is_stored_is_as_long_for_every_choice(house: House) -> None:
    survey = await house.open_survey("Lengths", ("A", "B" * 200, "C"))
    ballots = [survey.ballot(0), survey.ballot(1, "x" * 60), survey.ballot(2, "\N{SNOWMAN}" * 60)]
    inputs, results, receipts = set(), set(), set()
    for body in ballots:
        token = house.token(survey)
        voted = await house.cast(survey, token, body)
        assert voted.status_code == 201, voted.text
        receipts.add(len(voted.json()["receipt"]))
        submission = voted.json()["submissionId"]
        digits = len(batch_of(submission, "eu").rpartition("-")[2])  # of the batch's number, which is no secret
        execution = house.execution(submission, "eu")
        await eventually(partial(_closed, execution), what="the batch's execution closed")
        history = await execution.fetch_history()
        for event in history.events:
            if event.HasField("workflow_execution_started_event_attributes"):
                inputs.add(len(event.workflow_execution_started_event_attributes.input.payloads[0].data) - digits)
            if event.HasField("marker_recorded_event_attributes"):
                details = event.marker_recorded_event_attributes.details
                results.add(tuple(_length(payload, digits) for payload in details["result"].payloads))
    sealed = await house.owners["eu"].fetch(
        "SELECT DISTINCT octet_length(sealed) AS bytes FROM voting.ballot WHERE survey_id = $1", survey.id
    )
    assert len(sealed) == 1
    assert len(receipts) == 1
    assert len(inputs) == 1, inputs
    assert len(results) <= 2, results  # of recording, and of announcing


_NOTHING_BYTES = 100  # an encrypted nothing is shorter, and holds no number


def _length(payload: Payload, digits: int) -> int:
    return len(payload.data) - (digits if len(payload.data) > _NOTHING_BYTES else 0)


async def _closed(execution: WorkflowHandle[Any, Any]) -> bool:
    return (await execution.describe()).close_time is not None
