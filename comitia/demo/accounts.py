"""What an account is used for by its person: logging in, voting, losing the password and the device, and the end."""

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx
import pyotp

from comitia.demo.people import STAGE_WITHIN_S, Json, Vendors, WalkError
from integrations.keys.dpop_keys import ProofKey, make_proof

_AGAIN_S: Final = 0.2
_TOTP_STEP_S: Final = 30


@dataclass
class App:
    """An authenticator app, whose codes are good once each."""

    totp: pyotp.TOTP
    _last: int = 0

    async def code(self) -> str:
        """Return a code that was not used yet, waiting for the next one where that is too far ahead."""
        step = max(self._last + 1, int(time.time()) // _TOTP_STEP_S)
        await asyncio.sleep(max(0.0, (step - 1) * _TOTP_STEP_S + 1 - time.time()))  # one step ahead is borne
        self._last = step
        return str(self.totp.at(step * _TOTP_STEP_S))


@dataclass
class Client:
    """An app on a device with a key of its own, which every token of it is bound to."""

    services: Mapping[str, httpx.AsyncClient]
    vendors: Vendors
    mail: str
    say: Callable[[str], None]
    device: str = field(default_factory=lambda: secrets.token_hex(8))
    key: ProofKey = field(default_factory=ProofKey.generate)
    access_token: str = ""

    async def call(
        self, service: str, method: str, path: str, body: object = None, *, token: str | None = None
    ) -> httpx.Response:
        """Send a request with a proof of the key, and with the access token or another one that is bound to it."""
        client = self.services[service]
        content = b"" if body is None else json.dumps(body).encode()
        token = self.access_token if token is None else token
        proof = make_proof(
            self.key, method, f"{client.base_url}".rstrip("/") + path, time.time(), token=token, body=content
        )
        headers = {"dpop": proof, "content-type": "application/json"}
        if token:
            headers["authorization"] = f"DPoP {token}"
        return await client.request(method, path, content=content, headers=headers)

    async def log_in_by_mail(self) -> Json:
        """Log in by a code from the mail; return what was decided."""
        asked = await self._evidence()
        body = {"mail": self.mail, "nonce": asked["nonce"], "challengeToken": asked["challengeToken"]}
        expect(202, await self.call("api-auth", "POST", "/v1/auth/logins/codes", body, token=""))
        code = await self.vendors.code_for(self.mail)
        fresh = await self.vendors.evidence("login", self.device, nonce=asked["nonce"], name="nonce")
        return await self._log_in(fresh, method="mail_code", mail=self.mail, code=code)

    async def log_in_by_password(self, password: str) -> Json:
        """Log in by password; return what was decided."""
        return await self._log_in(await self._evidence(), method="password", mail=self.mail, password=password)

    async def step_up(self, attempt_id: str, app: "App") -> None:
        """Bring the code that an authenticator app shows."""
        body = {"factor": "totp", "code": await app.code()}
        self._take(
            expect(200, await self.call("api-auth", "POST", f"/v1/auth/logins/{attempt_id}/step-up", body, token=""))
        )

    async def set_password(self, password: str) -> None:
        """Set the password."""
        expect(204, await self.call("api-auth", "PUT", "/v1/account/password", {"password": password}))

    async def add_app(self) -> "App":
        """Set an authenticator app up, and confirm it by its first code."""
        uri = expect(200, await self.call("api-auth", "POST", "/v1/account/totp", {}))["uri"]
        app = App(pyotp.TOTP(parse_qs(urlsplit(uri).query)["secret"][0]))
        expect(204, await self.call("api-auth", "POST", "/v1/account/totp/confirm", {"code": await app.code()}))
        return app

    async def vote(self, survey: Json) -> httpx.Response:
        """Ask to vote in a survey and do so; the answer of whoever refused, or that of the vote."""
        nonce = secrets.token_hex(16)
        shown = {"deviceEventId": await self.vendors.device_event(self.device, nonce), "nonce": nonce}
        asked = await self.call("api-eligibility", "POST", f"/v1/surveys/{survey['id']}/voting-token", shown)
        if not asked.is_success:
            return asked
        question = survey["questions"][0]
        ballot = {"answers": [{"question": question["id"], "options": [question["options"][0]["id"]]}]}
        path, token = f"/v1/surveys/{survey['id']}/vote", asked.json()["votingToken"]
        return await self.call("api-votes", "POST", path, ballot, token=token)

    async def log_out(self) -> None:
        """End the session, everywhere within two seconds."""
        expect(204, await self.call("api-auth", "POST", "/v1/auth/logout", {}))
        async with asyncio.timeout(2):
            while True:
                answer = await self.call("api-auth", "GET", "/v1/auth/sessions")
                if answer.status_code == httpx.codes.UNAUTHORIZED:
                    return
                await asyncio.sleep(_AGAIN_S)

    async def regain(self, password: str) -> None:
        """Ask for a link, and set a new password by it."""
        body = {"mail": self.mail, **await self.vendors.evidence("recover", self.device)}
        expect(202, await self.call("api-auth", "POST", "/v1/account/recovery", body, token=""))
        token = await self.vendors.link_for(self.mail)
        path = f"/v1/account/recovery/{token}"
        expect(204, await self.call("api-auth", "POST", path, {"password": password}, token=""))
        again = await self.call("api-auth", "POST", path, {"password": password}, token="")
        if again.is_success:
            raise WalkError("a link was good twice")

    async def delete_account(self, registration: str) -> Json:
        """Delete the account, and return the certificate once the vendor has erased the case of this registration."""
        begun = expect(202, await self.call("api-auth", "DELETE", "/v1/account"))
        self.say("the deletion waits for the provider, which erases by agreement and not by a call; now it does")
        await self.vendors.control("sumsub", f"applicants/{registration}-1/forget-person")
        async with asyncio.timeout(STAGE_WITHIN_S):
            while True:
                answer = await self.services["api-auth"].get(f"/v1/account/deletions/{begun['deletionId']}")
                found: Json = expect(200, answer)
                if found["completedAt"] is not None:
                    return found
                await asyncio.sleep(_AGAIN_S)

    async def _evidence(self) -> Json:
        return await self.vendors.evidence("login", self.device, name="nonce")

    async def _log_in(self, evidence: Json, **proof: str) -> Json:
        decided: Json = expect(
            None, await self.call("api-auth", "POST", "/v1/auth/logins", {**evidence, **proof}, token="")
        )
        self.say(
            f"login: {decided['decision']}" + (f", by {', '.join(decided['factors'])}" if "factors" in decided else "")
        )
        if "accessToken" in decided:
            self._take(decided)
        return decided

    def _take(self, tokens: Json) -> None:
        self.access_token = tokens["accessToken"]


def expect(status: int | None, answer: httpx.Response) -> Any:
    """Return the body of an answer with this status, or any good one. Raises WalkError."""
    good = answer.is_success if status is None else answer.status_code == status
    if not good:
        request = answer.request
        raise WalkError(f"{request.method} {request.url.path}: {answer.status_code} {answer.text[:300]}")
    return answer.json() if answer.content else None
