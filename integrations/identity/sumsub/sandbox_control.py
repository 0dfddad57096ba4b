"""Control routes of the sandbox: what the person, the reviewer and the operator of Sumsub do there."""

import asyncio
import secrets
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import Field

from integrations.identity.sumsub.sandbox_access import Access
from integrations.identity.sumsub.sandbox_applicants import DAILY_MAX, Applicant, Applicants
from integrations.identity.sumsub.sandbox_events import Events, WebhookFault
from integrations.identity.sumsub.sandbox_routes import SdkTokens
from integrations.sandboxes.control import ControlModel
from integrations.sandboxes.faults import CONTROL


class Verdict(ControlModel):
    """A reviewer's answer; `scenario` adds what Sumsub says of one person with many accounts or a shared device."""

    review_answer: Literal["GREEN", "RED"] = "GREEN"
    reject_labels: list[str] = Field(default_factory=list)
    review_reject_type: str | None = None
    moderation_comment: str | None = None
    client_comment: str | None = None
    risk_labels: dict[str, list[str]] = Field(default_factory=dict)
    scenario: Literal["", "duplicate", "same_face", "shared_device"] = ""

    def result(self) -> dict[str, Any]:
        """Return `reviewResult`."""
        body = self.model_dump(by_alias=True, exclude_none=True, exclude={"risk_labels", "scenario"})
        return {**body, "rejectLabels": ["DUPLICATE"]} if self.scenario == "duplicate" else body

    def all_risk_labels(self) -> dict[str, list[str]]:
        """Return `riskLabels`."""
        more = {
            "": {},
            "duplicate": {"crossCheck": ["manyAccountDuplicates"]},
            "same_face": {"selfie": ["sameFaceWithDifferentData"]},
            "shared_device": {"device": ["manyApplicantsSameDevice"]},
        }
        return {**self.risk_labels, **more[self.scenario]}


class Evidence(ControlModel):
    """What a person shows in the SDK; with a `verdict` the review is answered at once."""

    country: str = "DEU"
    id_doc_type: str = "PASSPORT"
    number: str = Field(default_factory=lambda: secrets.token_hex(5).upper())
    first_name: str = "Ada"
    last_name: str = "Lovelace"
    dob: str = "1990-12-10"
    verdict: Verdict | None = None
    verdict_after_s: float = Field(default=0, ge=0, le=600)


class SdkEvidence(Evidence):
    """The same from a person's client, which has an access token and nothing else."""

    token: str


class Switches(ControlModel):
    """How the sandbox differs from a quiet day."""

    clock_offset_s: float = 0
    rate_limits: bool = False
    daily_applicants: int = Field(default=DAILY_MAX, ge=0)


def control_routes(applicants: Applicants, tokens: SdkTokens, access: Access, events: Events) -> APIRouter:
    """Return the routes below `/_control`, besides those of faults; `key` is either id of an applicant."""
    router = APIRouter(prefix=CONTROL)
    _add_people(router, applicants, tokens)
    _add_operator(router, applicants)
    _add_switches(router, applicants, access, events)
    return router


async def _hand_in(applicants: Applicants, applicant: Applicant, evidence: Evidence) -> None:
    document = evidence.model_dump(by_alias=True, include=set(Evidence.model_fields) - {"verdict", "verdict_after_s"})
    applicants.add_document(applicant, document, secrets.token_bytes(32))
    applicants.check(applicant)
    if evidence.verdict is not None:
        await asyncio.sleep(evidence.verdict_after_s)
        applicants.decide(applicant, evidence.verdict.result(), evidence.verdict.all_risk_labels())


def _find(applicants: Applicants, key: str) -> Applicant:
    return applicants.find(key) or applicants.get(key)


def _add_people(router: APIRouter, applicants: Applicants, tokens: SdkTokens) -> None:
    @router.post("/sdk", status_code=204)
    async def show_in_sdk(evidence: SdkEvidence) -> None:
        await _hand_in(applicants, applicants.get(tokens.applicant_id(evidence.token)), evidence)

    @router.get("/applicants/{key}")
    async def look(key: str) -> dict[str, Any]:
        return _find(applicants, key).as_json()

    @router.post("/applicants/{key}/evidence", status_code=204)
    async def show(key: str, evidence: Evidence) -> None:
        await _hand_in(applicants, _find(applicants, key), evidence)


def _add_operator(router: APIRouter, applicants: Applicants) -> None:
    @router.post("/applicants/{key}/hold", status_code=204)
    async def hold(key: str) -> None:
        applicants.hold(_find(applicants, key))

    @router.post("/applicants/{key}/verdict", status_code=204)
    async def decide(key: str, verdict: Verdict) -> None:
        applicants.decide(_find(applicants, key), verdict.result(), verdict.all_risk_labels())

    @router.post("/applicants/{key}/forget-person", status_code=204)
    async def forget_person(key: str) -> None:
        applicants.forget_person(_find(applicants, key))

    @router.delete("/applicants/{key}", status_code=204)
    async def delete(key: str) -> None:
        applicants.delete(_find(applicants, key))


def _add_switches(router: APIRouter, applicants: Applicants, access: Access, events: Events) -> None:
    @router.put("/switches", status_code=204)
    async def switch(switches: Switches) -> None:
        access.clock_offset_s = switches.clock_offset_s
        access.limited = switches.rate_limits
        applicants.daily_max = switches.daily_applicants

    @router.post("/webhook-faults", status_code=204)
    async def add_webhook_fault(fault: WebhookFault) -> None:
        events.add_fault(fault)

    @router.get("/webhooks")
    async def webhooks() -> list[dict[str, Any]]:
        sent = events.deliveries.sent
        return [{"type": each.kind, "answers": each.answers, "over": each.ended.is_set()} for each in sent]
