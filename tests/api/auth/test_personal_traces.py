"""What is known of a person stands nowhere in the clear: no row, no history, no list, no log and no answer has it."""

import asyncio
import logging
from contextlib import suppress
from typing import Any

import httpx
import pytest

from domain.ids import register_voter_workflow_id, verify_identity_workflow_id
from tests.api.auth.kept import execution, logged, mark, rows
from tests.api.auth.registration_town import WITHIN_S, Town, town
from tests.conftest import OwnerPool
from tests.end_to_end.traces import Kept, standing

__all__ = ["town"]


class Person:
    """Somebody who registers with one attempt in vain; `markers` are what must not be found, `refused` all errors."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.local_part, self.document, self.advice = mark(), mark().upper(), mark()
        self.markers = {"mail": self.local_part, "document": self.document, "advice": self.advice}
        self.registration = ""
        self.refused: list[httpx.Response] = []

    async def register(self) -> None:
        town, mail, nonce = self.town, f"{self.local_part}@example.org", mark()
        token = await town.control("turnstile", "tokens", action="register", cdata=nonce)
        event = await town.control("fingerprint", "events", device=mark(), linkedId=nonce, readableAfterMs=0)
        shown = {"challengeToken": token["token"], "challengeNonce": nonce, "deviceEventId": event["eventId"]}
        self.markers |= {"device": event["visitorId"], "nonce": nonce}
        body: dict[str, Any] = {"cell": "eu", "region": "DE", "mail": mail, **shown}
        for wrong in ({"mail": f"{mail}@"}, {"region": f"{self.local_part} "}, {"mail": [mail]}, {"cell": nonce}):
            self.refused.append(await town.client.post("/v1/registrations", json={**body, **wrong}))
        begun = await town.client.post("/v1/registrations", json=body)
        assert begun.status_code == 201, begun.text
        self.registration, secret = begun.json()["registrationId"], begun.json()["registrationSecret"]
        town.secrets[self.registration] = secret
        self.markers["secret"] = secret.removeprefix("rs_")
        self.refused.append(await town.send("POST", self.registration, "/contact", code="00000000"))
        self.refused.append(await town.send("POST", self.registration, "/contact", code=mail))
        await town.prove(self.registration, mail)

    async def show_document(self) -> None:
        town = self.town
        await town.at_provider(self.registration)
        verdict: dict[str, Any] = {
            "reviewAnswer": "RED",
            "rejectLabels": ["UNSATISFACTORY_PHOTOS"],
            "reviewRejectType": "RETRY",
        }
        await town.show(self.registration, self.document, **verdict, moderationComment=f"Nearer, {self.advice}")
        retry = await town.at(self.registration, "retry")
        assert self.advice in retry["advice"]
        async with asyncio.timeout(WITHIN_S):
            while True:  # once the case takes evidence again
                with suppress(AssertionError):
                    await town.show(self.registration, self.document)
                    break
                await asyncio.sleep(0.1)
        await town.at(self.registration, "active")


async def test_nothing_that_is_kept_or_said_tells_who_registered(
    town: Town, owner_pool: OwnerPool, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    person = Person(town)
    await person.register()
    await person.show_document()
    kept = [logged(capfd, caplog)]
    kept += [item async for item in rows(owner_pool)]
    for workflow_id in (
        register_voter_workflow_id("eu", person.registration),
        verify_identity_workflow_id("eu", person.registration, 1),
    ):
        kept += [item async for item in execution(town.cells["eu"].temporal, workflow_id)]
    kept += [Kept("answer", answer.content + str(answer.headers).encode()) for answer in person.refused]

    assert standing(kept, {name: value.encode() for name, value in person.markers.items()}) == set()
    assert {answer.status_code for answer in person.refused} <= {400, 403, 404, 409, 422}
    # it did look where things are
    control = {place for _, place in standing(kept, {"id": person.registration.encode()})}
    assert {"postgres identity.registration", "postgres audit.entry"} <= control
    assert {place.split()[0] for place in control} == {"postgres", "described", "history"}
