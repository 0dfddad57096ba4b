"""The letter provider's HTTP interface as a small real server: for us by key, for the person by access token."""

import secrets
from contextlib import AsyncExitStack
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import Field
from starlette.types import ASGIApp

from integrations.identity.letters.client import CaseState, Reason
from integrations.identity.letters.sandbox_cases import Case, Cases, DocumentData, RefusedError, RegisterEntry
from integrations.identity.letters.sandbox_events import Events, WebhookFault
from integrations.identity.letters.webhook import VENDOR
from integrations.sandboxes.control import ControlModel
from integrations.sandboxes.deliveries import Deliveries, open_deliveries
from integrations.sandboxes.faults import CONTROL, Faults, FaultSwitches, fault_routes
from integrations.settings import Settings
from integrations.vendor_settings import LettersSettings

Authorization = Annotated[str, Header()]


class AccessRequest(ControlModel):
    """How long an access is good for."""

    ttl_seconds: int = Field(ge=0, le=86_400)


class Code(ControlModel):
    """The code of the letter, as the person types it."""

    code: str = Field(max_length=32)


class Failing(ControlModel):
    """How an operator ends an attempt."""

    state: CaseState = CaseState.INCOMPLETE
    reason: Reason = Reason.ADDRESS_UNDELIVERABLE


async def open_sandbox(settings: Settings, lifetime: AsyncExitStack) -> ASGIApp | None:
    """Return the sandbox that takes the key of the settings, or None where they have none."""
    if settings.letters is None:
        return None
    deliveries = await lifetime.enter_async_context(open_deliveries(VENDOR, settings.sandboxes))
    return create_sandbox(settings.letters, deliveries)


def create_sandbox(settings: LettersSettings, deliveries: Deliveries) -> ASGIApp:
    """Return the application."""
    events = Events(deliveries, settings.webhook_secret.get_secret_value().encode())
    cases, faults = Cases(events.tell), Faults()
    app = FastAPI(title="Letters sandbox", openapi_url=None)
    app.include_router(_our_routes(cases, settings.api_key.get_secret_value()))
    app.include_router(_person_routes(cases))
    app.include_router(_control_routes(cases, events))
    app.include_router(fault_routes(faults))

    @app.exception_handler(RefusedError)
    async def refuse(_: Request, error: RefusedError) -> JSONResponse:
        return JSONResponse(_body(error.status, error.problem), error.status)

    @app.exception_handler(RequestValidationError)
    async def refuse_form(_: Request, __: RequestValidationError) -> JSONResponse:
        return JSONResponse(_body(422, "not what this call takes"), 422)

    return FaultSwitches(app, faults, lambda status: _body(status, "something went wrong"))


def _body(status: int, problem: str) -> dict[str, Any]:
    return {"code": status, "problem": problem}


def _our_routes(cases: Cases, key: str) -> APIRouter:
    async def check_key(authorization: Authorization = "") -> None:
        if not secrets.compare_digest(authorization.encode(), f"Bearer {key}".encode()):
            raise RefusedError(401, "not a key of ours")

    router = APIRouter(prefix="/v1/cases", dependencies=[Depends(check_key)])

    @router.put("/by-case-id/{case_id}")
    async def open_case(case_id: str) -> dict[str, Any]:
        return cases.open(case_id).as_json()

    @router.get("/{reference}")
    async def read(reference: str) -> dict[str, Any]:
        return cases.get(reference).as_json()

    @router.post("/{reference}/access", status_code=201)
    async def access(reference: str, request: AccessRequest) -> dict[str, str]:
        token, until = cases.give_access(cases.get(reference), request.ttl_seconds)
        return {"token": token, "expiresAt": until.isoformat()}

    @router.post("/{reference}/retry")
    async def retry(reference: str) -> dict[str, Any]:
        case = cases.get(reference)
        cases.retry(case)
        return case.as_json()

    @router.delete("/{reference}", status_code=204)
    async def erase(reference: str) -> Response:
        cases.erase(cases.get(reference))
        return Response(status_code=204)

    return router


def _person_routes(cases: Cases) -> APIRouter:
    async def whose(authorization: Authorization = "") -> Case:
        return cases.of_person(authorization.removeprefix("Bearer "))

    router = APIRouter(prefix="/v1/person")
    whose_case = Annotated[Case, Depends(whose)]

    @router.post("/document")
    async def document(data: DocumentData, case: whose_case) -> dict[str, Any]:
        cases.take_document(case, data)
        return case.as_json()

    @router.post("/code")
    async def code(typed: Code, case: whose_case) -> dict[str, Any]:
        cases.take_code(case, typed.code)
        return case.as_json()

    return router


def _control_routes(cases: Cases, events: Events) -> APIRouter:
    router = APIRouter(prefix=CONTROL)

    @router.get("/letters/{key}")
    async def letters(key: str) -> list[dict[str, Any]]:
        return [{"code": each.code, "name": each.name, "address": each.address} for each in cases.get(key).letters]

    @router.post("/register", status_code=204)
    async def register(entry: RegisterEntry) -> None:
        cases.register(entry)

    @router.post("/cases/{key}/failing", status_code=204)
    async def fail(key: str, failing: Failing) -> None:
        cases.fail(cases.get(key), failing.state, failing.reason)

    @router.post("/webhook-faults", status_code=204)
    async def add_webhook_fault(fault: WebhookFault) -> None:
        events.add_fault(fault)

    return router
