"""`comitia demo identity`: a person goes all the way while every vendor fails once, and each stage is shown."""

import json
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack

import httpx
from rich.console import Console

from comitia.demo.people import Person, Vendors, WalkError

_PATIENCE_S = 40.0


async def walk(urls: Mapping[str, str], console: Console, *, cell: str = "eu") -> None:
    """Walk against a running stack whose vendors are sandboxes; `urls` are its addresses by name.

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

        vendors = Vendors(await client("sandboxes"))
        auth, webhooks = await client("api-auth"), await client("api-webhooks")
        person = Person(auth, vendors, say)
        await _register(person, vendors, webhooks, cell)
        await _second_account(person, vendors)


async def _register(person: Person, vendors: Vendors, webhooks: httpx.AsyncClient, cell: str) -> None:
    person.say("the bot challenge answers 500, the device vendor 429, the mail server 451, the proofing provider")
    person.say("429, then 500, then nothing at all; its word of the review is lost")
    await vendors.fail("turnstile", kind="status", status=500, count=4)
    await vendors.fail("fingerprint", kind="status", status=429, count=1, retryAfterS=1)
    await vendors.control("mail", "faults", stage="recipient", kind="reply", count=1)
    await vendors.fail("sumsub", kind="status", status=429, count=1)
    await vendors.fail("sumsub", kind="status", status=500, count=1)
    await vendors.fail("sumsub", kind="drop", count=1)
    await vendors.control("sumsub", "webhook-faults", kind="lost", type="applicantReviewed")
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
