"""`comitia demo identity`: a person goes all the way while every vendor fails once, and each stage is shown."""

import json
import secrets
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack

import httpx
from rich.console import Console

from comitia.demo.accounts import App, Client, expect
from comitia.demo.people import Json, Person, Vendors, WalkError
from comitia.tokens import open_access_tokens
from domain.tokens import Role
from integrations.settings import Settings

_PATIENCE_S = 40.0
_SERVICES = ("api-auth", "api-webhooks", "api-surveys", "api-eligibility", "api-votes")
_PASSWORD, _NEW_PASSWORD = (f"of a demo {secrets.token_hex(12)}" for _ in range(2))


async def walk(urls: Mapping[str, str], settings: Settings, console: Console, *, cell: str = "eu") -> None:
    """Walk against a running stack whose vendors are sandboxes.

    `urls` are its addresses by name; `settings` may make the token of a member of staff, who publishes a survey.

    Raises:
        WalkError: something did not come to what it has to come to, or the stack has no sandboxes.
    """
    if "sandboxes" not in urls:
        raise WalkError("the stack has no sandboxes of vendors")
    began = time.monotonic()

    def say(text: str) -> None:
        console.print(f"{time.monotonic() - began:6.1f} s  {text}", markup=False, highlight=False)

    async with AsyncExitStack() as lifetime:

        async def client(name: str) -> httpx.AsyncClient:
            opened = httpx.AsyncClient(base_url=urls[name], timeout=_PATIENCE_S, trust_env=False)
            return await lifetime.enter_async_context(opened)

        services = {name: await client(name) for name in _SERVICES}
        vendors = Vendors(await client("sandboxes"))
        survey = await _survey(services["api-surveys"], settings)
        person = Person(services["api-auth"], vendors, say)
        await _register(person, vendors, services["api-webhooks"], cell)
        await _second_account(person, vendors)
        first = Client(services, vendors, person.mail, say, device=person.device)
        app = await _log_in_and_vote(first, survey)
        await _log_in_elsewhere(first, app, survey)
        owner = await _regain(first, app)
        await _delete_and_come_back(owner, person, survey, cell)


async def _survey(surveys: httpx.AsyncClient, settings: Settings) -> Json:
    tokens = await open_access_tokens(settings)
    headers = {"authorization": f"Bearer {tokens.staff('demo', [Role.ADMIN])}"}
    options = [{"text": "Yes"}, {"text": "No"}]
    body = {
        "title": "One person, one vote",
        "questions": [{"title": "Agreed?", "min": 1, "max": 1, "options": options}],
    }
    created: Json = expect(201, await surveys.post("/v1/internal/surveys", json=body, headers=headers))
    expect(200, await surveys.put(f"/v1/internal/surveys/{created['id']}/publish", headers=headers))
    return created


async def _log_in_and_vote(client: Client, survey: Json) -> App:
    client.say("the first login, by a code from the mail, on the device of the registration")
    decided = await client.log_in_by_mail()
    if decided["decision"] != "ALLOW":
        raise WalkError(f"the first login was not let in: {decided}")
    await client.set_password(_PASSWORD)
    app = await client.add_app()
    client.say("a password and an authenticator app are set")
    voted = await client.vote(survey)
    expect(None, voted)
    client.say(f"voted: {voted.status_code}")
    return app


async def _log_in_elsewhere(client: Client, app: App, survey: Json) -> None:
    client.say("a new device, with the password")
    other = Client(client.services, client.vendors, client.mail, client.say)
    decided = await other.log_in_by_password(_PASSWORD)
    if decided["decision"] != "CHALLENGE":
        raise WalkError(f"a new device was let in by password alone: {decided}")
    await other.step_up(decided["attemptId"], app)
    client.say("stepped up with the app's code")
    _refused(client, "a second vote", await other.vote(survey))
    await other.log_out()
    client.say("logged out: the access token is good for nothing any more")


async def _regain(client: Client, app: App) -> Client:
    client.say("password and device are lost")
    owner = Client(client.services, client.vendors, client.mail, client.say)
    await owner.regain(_NEW_PASSWORD)
    if (await client.call("api-auth", "GET", "/v1/auth/sessions")).is_success:
        raise WalkError("an old session outlived the recovery")
    client.say("a link from the mail was good once; the old sessions are over")
    decided = await owner.log_in_by_password(_NEW_PASSWORD)
    if decided["decision"] != "CHALLENGE":
        raise WalkError(f"recovery was a way around the second factor: {decided}")
    await owner.step_up(decided["attemptId"], app)
    return owner


async def _delete_and_come_back(owner: Client, person: Person, survey: Json, cell: str) -> None:
    certificate = await owner.delete_account(person.registration)
    owner.say(f"account deleted: {certificate['stage']}, {certificate['credentialsRemoved']} credentials removed")
    owner.say("the same person registers again")
    again = Person(person.auth, person.vendors, person.say, document=person.document)
    await again.register(cell)
    await again.prove_mail()
    await again.show_document()
    await again.until("active")
    client = Client(owner.services, owner.vendors, again.mail, owner.say, device=again.device)
    await client.log_in_by_mail()
    _refused(client, "a vote in the same survey, with the new account", await client.vote(survey))


def _refused(client: Client, what: str, answer: httpx.Response) -> None:
    if answer.is_success:
        raise WalkError(f"{what} was taken")
    client.say(f"{what}: {answer.status_code} {answer.json()['code']}")


async def _register(person: Person, vendors: Vendors, webhooks: httpx.AsyncClient, cell: str) -> None:
    person.say("the bot challenge answers 500, the device vendor 429, the mail server 451, the proofing provider")
    person.say("429, then 500, then nothing at all; its words of the review are lost")
    await vendors.fail("turnstile", kind="status", status=500, count=4)
    await vendors.fail("fingerprint", kind="status", status=429, count=1, retryAfterS=1)
    await vendors.control("mail", "faults", stage="recipient", kind="reply", count=1)
    await vendors.fail("sumsub", kind="status", status=429, count=1)
    await vendors.fail("sumsub", kind="status", status=500, count=1)
    await vendors.fail("sumsub", kind="never", count=1)
    for kind in ("applicantPending", "applicantReviewed"):
        await vendors.control("sumsub", "webhook-faults", kind="lost", type=kind)
    await person.register(cell)
    await person.until("contact_proof")
    await person.prove_mail()
    await person.until("proofing")
    await _forge(person, webhooks)
    await person.show_document()
    person.say("the provider has approved, and nobody told us: the workflow asks by itself")
    await person.until("active")


async def _forge(person: Person, webhooks: httpx.AsyncClient) -> None:
    """Say in the provider's name that the case is approved. Raises WalkError where that is believed."""
    body = {"type": "applicantReviewed", "externalUserId": f"{person.registration}-1", "reviewStatus": "completed"}
    headers = {
        "content-type": "application/json",
        "X-Payload-Digest": "0" * 64,
        "X-Payload-Digest-Alg": "HMAC_SHA256_HEX",
    }
    answer = await webhooks.post("/v1/webhooks/sumsub", content=json.dumps(body), headers=headers)
    if answer.is_success:
        raise WalkError("a forged webhook was taken")
    person.say(f"a forged webhook says that the case is approved: {answer.status_code} {answer.json()['code']}")
    found = await person.until("proofing")
    person.say(f"the case stands where it stood: {found['stage']}")


async def _second_account(person: Person, vendors: Vendors) -> None:
    """Register again with the same document and another address. Raises WalkError where that gives an account."""
    again = Person(person.auth, vendors, person.say, document=person.document)
    person.say("the same document again, with another address, in the other cell")
    await again.register("us")
    await again.prove_mail()
    await again.show_document()
    ended = await again.until("active", "refused", "rejected")
    if ended["stage"] != "refused":
        raise WalkError(f"one person has two accounts: {ended}")
