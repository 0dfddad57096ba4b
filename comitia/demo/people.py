"""Somebody with an empty client, as `comitia demo identity` plays them: HTTP alone, and the vendors' own pages."""

import asyncio
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

STAGE_WITHIN_S: Final = 90.0
_LOOK_EVERY_S: Final = 0.2
_CODE = re.compile(r"\b[0-9]{8}\b")
_LINK = re.compile(r"\brk_[a-z0-9]+_[A-Za-z0-9_-]{43}")
REGION: Final = "DE"

Json = dict[str, Any]


class WalkError(Exception):
    """Something did not come to what it has to come to."""


@dataclass
class Vendors:
    """The control routes of the sandboxes: what a vendor's pages and scripts do in a person's client, and failures."""

    client: httpx.AsyncClient
    _seen: set[str] = field(default_factory=set)

    async def control(self, vendor: str, path: str, **body: Any) -> Any:
        """Work a switch of a sandbox. Raises WalkError where it refuses."""
        answer = await self.client.post(f"/{vendor}/_control/{path}", json=body)
        if not answer.is_success:
            raise WalkError(f"the sandbox {vendor} refused {path}: {answer.status_code} {answer.text[:200]}")
        return answer.json() if answer.content else None

    async def fail(self, vendor: str, **fault: Any) -> None:
        """Let the next calls of a vendor go wrong."""
        await self.control(vendor, "faults", **fault)

    async def evidence(self, action: str, device: str, *, nonce: str = "", name: str = "challengeNonce") -> Json:
        """Return what a client hands over beside its request: a solved challenge and a device event for one nonce.

        The nonce is a new one where none is given; `name` is its field.
        """
        nonce = nonce or secrets.token_hex(16)
        token = await self.control("turnstile", "tokens", action=action, cdata=nonce)
        return {"challengeToken": token["token"], name: nonce, "deviceEventId": await self.device_event(device, nonce)}

    async def device_event(self, device: str, nonce: str) -> str:
        """Return the id of a device event that was made for a nonce."""
        event = await self.control("fingerprint", "events", device=device, linkedId=nonce, readableAfterMs=0)
        return str(event["eventId"])

    async def code_for(self, mail: str) -> str:
        """Return the newest code that was sent to an address and not asked for yet, waiting for one."""
        return await self._newest(mail, _CODE)

    async def link_for(self, mail: str) -> str:
        """Return the newest token of a recovery link in the same way."""
        return await self._newest(mail, _LINK)

    async def _newest(self, mail: str, wanted: re.Pattern[str]) -> str:
        async with asyncio.timeout(STAGE_WITHIN_S):
            while True:
                sent = (await self.client.get("/mail/messages", params={"to": mail, "waitS": 1})).json()
                found = [each for message in sent for each in wanted.findall(message["text"]) if each not in self._seen]
                if found:
                    self._seen.update(found)
                    return str(found[-1])
                await asyncio.sleep(_LOOK_EVERY_S)


@dataclass
class Person:
    """One client: its mail address, its device and the document in its pocket."""

    auth: httpx.AsyncClient
    vendors: Vendors
    say: Callable[[str], None]
    mail: str = field(default_factory=lambda: f"{secrets.token_hex(5)}@example.org")
    device: str = field(default_factory=lambda: secrets.token_hex(8))
    document: str = field(default_factory=lambda: secrets.token_hex(5).upper())
    registration: str = ""
    secret: str = field(default="", repr=False)
    stage: str = ""

    async def register(self, cell: str) -> None:
        """Begin, however often the vendors that guard the door have to be waited for."""
        while True:
            body = {"cell": cell, "region": REGION, "mail": self.mail}
            body |= await self.vendors.evidence("register", self.device)
            answer = await self.auth.post("/v1/registrations", json=body)
            if answer.status_code == httpx.codes.CREATED:
                self.registration, self.secret = answer.json()["registrationId"], answer.json()["registrationSecret"]
                return
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                raise WalkError(f"registration refused: {answer.status_code} {answer.text}")
            self.say(f"refused with 503 {answer.json()['code']}: nobody is let in unseen; again")
            await asyncio.sleep(min(2.0, float(answer.headers.get("retry-after", "1"))))

    async def prove_mail(self) -> None:
        """Hand in the code from the mail."""
        code = await self.vendors.code_for(self.mail)
        async with asyncio.timeout(STAGE_WITHIN_S):
            while True:  # the mail may be faster than the report of its sending
                answer = await self._call("POST", "/contact", code=code)
                if answer.is_success:
                    return
                if answer.json()["code"] != "code_wrong":
                    raise WalkError(f"the code was refused: {answer.status_code} {answer.text}")
                await asyncio.sleep(_LOOK_EVERY_S)

    async def show_document(self, **verdict: Any) -> None:
        """Show the document on the provider's pages, which take what the server gave the client for them."""
        async with asyncio.timeout(STAGE_WITHIN_S):
            while True:
                answer = await self._call("POST", "/proofing-access")
                if answer.is_success:
                    break
                if answer.json()["code"] not in {"proofing_unavailable", "registration_stage"}:
                    raise WalkError(f"no access to the provider: {answer.status_code} {answer.text}")
                await asyncio.sleep(_LOOK_EVERY_S)
        shown = {"reviewAnswer": "GREEN", **verdict}
        await self.vendors.control("sumsub", "sdk", token=answer.json()["token"], number=self.document, verdict=shown)

    async def until(self, *stages: str) -> Json:
        """Wait until the registration is at one of these stages, telling of each that it goes through."""
        async with asyncio.timeout(STAGE_WITHIN_S):
            while True:
                answer = await self._call("GET")
                found: Json = answer.json()
                if answer.is_success and found["stage"] != self.stage:
                    self.stage = found["stage"]
                    reasons = f" ({', '.join(found['reasons'])})" if found["reasons"] else ""
                    self.say(f"registration: {self.stage}{reasons}")
                if answer.is_success and self.stage in stages:
                    return found
                await asyncio.sleep(_LOOK_EVERY_S)

    async def _call(self, method: str, path: str = "", **body: str) -> httpx.Response:
        """Ask something of the registration, with the secret of its first answer."""
        headers = {"authorization": f"Bearer {self.secret}"}
        url = f"/v1/registrations/{self.registration}{path}"
        return await self.auth.request(method, url, headers=headers, json=None if method == "GET" else body)
