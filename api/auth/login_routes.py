"""Login and step-up over HTTP: by anybody, with a proof of the key that every token will be bound to."""

from typing import Annotated, Final

from fastapi import APIRouter, Path, Request
from starlette.responses import JSONResponse, Response

from api.auth.cells import AuthCells
from api.auth.login_bodies import (
    ChallengedBody,
    CodeRequestBody,
    LoggedInBody,
    LoginBody,
    PasskeyOptionsBody,
    PasskeyRequestBody,
    SentBody,
    StepUpBody,
    logged_in_body,
)
from api.auth.login_codes import LoginCodes
from api.auth.login_humans import HumanChecks
from api.auth.login_proofs import Offer
from api.auth.login_steps import StepUpDesk
from api.auth.logins import LoginDesk, Visit
from api.auth.proving import KeyProofs, ProofHeader
from api.http.application import problem_responses
from api.http.limits import FrameworkRequest, Limits
from api.http.models import QueryText
from domain import canonical
from domain.errors import DomainError, ErrorCode
from domain.limits import LOGIN_ADDRESS, LOGIN_CODE_CONTACT, LOGIN_CONTACT, LOGIN_NETWORK
from integrations.devices.shown import ShownDevices

LOGINS: Final = "/v1/auth/logins"
_CELL_ERRORS = (
    ErrorCode.RATE_LIMITED,
    ErrorCode.WRONG_CELL,
    ErrorCode.CELL_UNAVAILABLE,
    ErrorCode.DIRECTORY_UNAVAILABLE,
    ErrorCode.KEY_UNAVAILABLE,
)
_LOGIN_ERRORS = {
    **problem_responses(
        ErrorCode.PROOF_INVALID,
        ErrorCode.LOGIN_FAILED,
        ErrorCode.RISK_DENIED,
        ErrorCode.VOTER_NOT_ACTIVE,
        ErrorCode.IDENTITY_PROVIDER_UNAVAILABLE,
        ErrorCode.WORKFLOWS_UNAVAILABLE,
        ErrorCode.OVERLOADED,
        *_CELL_ERRORS,
    ),
    202: {"model": ChallengedBody, "description": "A further factor is needed"},
}
_CODE_ERRORS = problem_responses(ErrorCode.CHALLENGE_FAILED, ErrorCode.OVERLOADED, *_CELL_ERRORS)
_OPTIONS_ERRORS = problem_responses(ErrorCode.FACTOR_NOT_FOUND, *_CELL_ERRORS)
_WAITING = (
    ErrorCode.PROOF_INVALID,
    ErrorCode.DEVICE_MISMATCH,
    ErrorCode.LOGIN_NOT_FOUND,
    ErrorCode.FACTOR_NOT_FOUND,
    *_CELL_ERRORS,
)
_STEP_ERRORS = problem_responses(
    ErrorCode.LOGIN_FAILED, ErrorCode.VOTER_NOT_ACTIVE, ErrorCode.WORKFLOWS_UNAVAILABLE, *_WAITING
)

AttemptId = Annotated[QueryText, Path(max_length=64)]


class LoginLimits:
    """Counts logins for their place and for the address of the account that they are after."""

    def __init__(self, limits: Limits) -> None:
        self._places = limits.route(address=LOGIN_ADDRESS, network=LOGIN_NETWORK)
        self._contacts = limits.subjects(LOGIN_CONTACT)
        self._codes = limits.subjects(LOGIN_CODE_CONTACT)

    def take(self, request: FrameworkRequest, mail: str = "") -> None:
        """Count a login. Raises DomainError `rate_limited`, `malformed_request`."""
        contact = canonical.mail(mail) if mail else ""
        self._places.take(request)
        if contact:
            self._contacts.take(request, contact)

    def take_code(self, request: FrameworkRequest, mail: str) -> None:
        """Count a message. Raises DomainError `rate_limited`, `malformed_request`."""
        contact = canonical.mail(mail)
        self._places.take(request)
        self._codes.take(request, contact)

    def take_step_up_code(self, request: FrameworkRequest, attempt_id: str) -> None:
        """Count a message for a login. Raises DomainError `rate_limited`."""
        self._codes.take(request, attempt_id)


def login_routes(
    logins: LoginDesk,
    *,
    codes: LoginCodes,
    humans: HumanChecks,
    cells: AuthCells,
    names: tuple[str, ...],
    key: KeyProofs,
    limits: Limits,
    shown: ShownDevices | None = None,
) -> APIRouter:
    """Return the routes that begin logins."""
    router = APIRouter(prefix=LOGINS, tags=["login"])
    counted = LoginLimits(limits)

    @router.post("", summary="Log in", response_model=LoggedInBody, responses=_LOGIN_ERRORS)
    async def log_in(request: Request, body: LoginBody, _dpop: ProofHeader = None) -> LoggedInBody | Response:
        """Log in; the answer to a proof that is not good is one and the same, whatever is wrong with it."""
        jkt, asked = await key.of(request), FrameworkRequest(request)
        counted.take(asked, body.mail)
        if shown is not None and body.device_result:
            shown.show(body.device_event_id, body.device_result)
        offer = Offer(
            method=body.method,
            jkt=jkt,
            nonce=body.nonce,
            cell=body.cell,
            mail=body.mail,
            password=body.password,
            code=body.code,
            passkey=body.passkey,
            state=body.state,
            issuer=body.issuer,
        )
        visit = Visit(asked.client, request.headers.get("user-agent", ""), body.challenge_token, body.device_event_id)
        decided = await logins.log_in(offer, visit)
        if decided.tokens is None:
            challenged = ChallengedBody(attempt_id=decided.attempt_id, factors=decided.factors)
            return JSONResponse(challenged.model_dump(mode="json", by_alias=True), status_code=202)
        return logged_in_body(decided.tokens)

    @router.post("/codes", status_code=202, summary="Have a code sent by mail", responses=_CODE_ERRORS)
    async def send_code(request: Request, body: CodeRequestBody) -> SentBody:
        """Send a code, if there is an account that may log in; the answer is the same if there is none."""
        counted.take_code(FrameworkRequest(request), body.mail)
        if not await humans.is_human(body.challenge_token, body.nonce):
            raise DomainError(ErrorCode.CHALLENGE_FAILED)
        if body.cell is not None:
            cells.of(body.cell)
        codes.send_login_code(body.mail, body.nonce, body.cell)
        return SentBody()

    @router.post("/passkey-options", summary="Begin a login by passkey", responses=_OPTIONS_ERRORS)
    async def passkey_options(request: Request, body: PasskeyRequestBody | None = None) -> PasskeyOptionsBody:
        """Return a fresh challenge for whoever has a passkey; it is good once, for five minutes."""
        counted.take(FrameworkRequest(request))
        passkeys = cells.of((body.cell if body else None) or names[0]).passkeys
        if passkeys is None:
            raise DomainError(ErrorCode.FACTOR_NOT_FOUND, "there are no passkeys here")
        return PasskeyOptionsBody(options=await passkeys.begin_login())

    return router


def step_up_routes(steps: StepUpDesk, key: KeyProofs, limits: Limits) -> APIRouter:
    """Return the routes that finish challenged logins; all take a proof of the key that the login began with."""
    router = APIRouter(prefix=f"{LOGINS}/{{attempt_id}}", tags=["login"])
    counted = LoginLimits(limits)

    @router.post("/step-up", summary="Bring a further factor", responses=_STEP_ERRORS)
    async def step_up(
        request: Request, attempt_id: AttemptId, body: StepUpBody, _dpop: ProofHeader = None
    ) -> LoggedInBody:
        """Finish a challenged login; after five wrong factors it is over."""
        jkt, asked = await key.of(request), FrameworkRequest(request)
        counted.take(asked)
        tokens = await steps.finish(
            attempt_id, jkt, body.factor, code=body.code, passkey=body.passkey, client_address=asked.client
        )
        return logged_in_body(tokens)

    @router.post(
        "/step-up-code",
        status_code=202,
        summary="Have a code sent by mail",
        responses=problem_responses(ErrorCode.OVERLOADED, *_WAITING),
    )
    async def send_step_up_code(request: Request, attempt_id: AttemptId, _dpop: ProofHeader = None) -> SentBody:
        """Send a code for this login alone; the last one is the one that counts."""
        jkt, asked = await key.of(request), FrameworkRequest(request)
        counted.take(asked)
        counted.take_step_up_code(asked, attempt_id)
        await steps.send_code(attempt_id, jkt)
        return SentBody()

    @router.post("/passkey-options", summary="Begin a step-up by passkey", responses=problem_responses(*_WAITING))
    async def step_up_options(request: Request, attempt_id: AttemptId, _dpop: ProofHeader = None) -> PasskeyOptionsBody:
        """Return a challenge for the voter's own passkeys."""
        jkt = await key.of(request)
        counted.take(FrameworkRequest(request))
        return PasskeyOptionsBody(options=await steps.passkey_options(attempt_id, jkt))

    return router
