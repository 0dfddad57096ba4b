"""People in the middle of something while the release changes: what they began with the old one, they end with ours."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import httpx

from comitia.demo.accounts import App, Client, expect
from comitia.demo.people import Person, Vendors
from tests.end_to_end.house import House

PASSWORD: Final = f"of a test {secrets.token_hex(12)}"
NEW_PASSWORD: Final = f"of a test {secrets.token_hex(12)}"


def silent(_: str) -> None:
    """Say nothing: what people come to is asserted."""


@dataclass
class People:
    """People of two cells, whose services may be others from one moment to the next."""

    house: House
    vendors: Vendors

    async def registering(self, cell: str) -> Person:
        """Return somebody who has begun to register."""
        person = Person(self.house.clients["auth"], self.vendors, silent)
        await person.register(cell)
        return person

    async def member(self, cell: str) -> tuple[Client, App]:
        """Return somebody who has registered, with a password and an authenticator app."""
        person = await self.registering(cell)
        await person.prove_mail()
        await person.show_document()
        await person.until("active")
        client = self.client(person.mail, person.device)
        assert (await client.log_in_by_mail())["decision"] == "ALLOW"
        await client.set_password(PASSWORD)
        return client, await client.add_app()

    def client(self, mail: str, device: str = "") -> Client:
        """Return a client of this person, on a new device unless one is given."""
        services = {"api-auth": self.house.clients["auth"]}
        return Client(services, self.vendors, mail, silent, device=device or secrets.token_hex(8))


@dataclass
class Unfinished:
    """Two who register, one who is asked for a second factor, and one who has a link to set a new password by."""

    people: People
    unproved: Person
    unidentified: Person
    stepping: Client
    attempt: str
    app: App
    forgetful: Client
    link: str

    async def step_up(self) -> None:
        """Bring the second factor to whoever serves now."""
        self.stepping.services = {"api-auth": self.people.house.clients["auth"]}
        await self.stepping.step_up(self.attempt, self.app)
        assert (await self.stepping.call("api-auth", "GET", "/v1/auth/sessions")).is_success

    async def finish(self) -> None:
        """Have the others end what was begun, at whoever serves now."""
        auth = self.people.house.clients["auth"]
        for person in (self.unproved, self.unidentified):
            person.auth = auth
        await self.unproved.prove_mail()
        for person in (self.unproved, self.unidentified):
            await person.show_document()
            await person.until("active")
        self.forgetful.services = {"api-auth": auth}
        path = f"/v1/account/recovery/{self.link}"
        expect(204, await self.forgetful.call("api-auth", "POST", path, {"password": NEW_PASSWORD}, token=""))
        assert (await self.forgetful.log_in_by_password(NEW_PASSWORD))["decision"] == "CHALLENGE"


@asynccontextmanager
async def unfinished(house: House) -> AsyncIterator[Unfinished]:
    """Have people come as far as they come by themselves; what they need to go on is there until the end."""
    assert house.sandboxes is not None
    async with httpx.AsyncClient(base_url=house.sandboxes.url, timeout=30, trust_env=False) as vendors:
        people = People(house, Vendors(vendors))
        unproved, unidentified = [await people.registering(cell) for cell in ("us", "eu")]
        await unproved.until("contact_proof")
        await unidentified.prove_mail()
        await unidentified.until("proofing")
        owner, app = await people.member("us")
        stepping = people.client(owner.mail)
        decided = await stepping.log_in_by_password(PASSWORD)
        assert decided["decision"] == "CHALLENGE", decided
        forgetful = people.client((await people.member("eu"))[0].mail)
        body = {"mail": forgetful.mail, **await people.vendors.evidence("recover", forgetful.device)}
        expect(202, await forgetful.call("api-auth", "POST", "/v1/account/recovery", body, token=""))
        link = await people.vendors.link_for(forgetful.mail)
        yield Unfinished(people, unproved, unidentified, stepping, decided["attemptId"], app, forgetful, link)
