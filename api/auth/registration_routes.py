"""Registration over HTTP: begun without an account, gone on with by who has the secret of its first answer."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import Field

from api.auth.registrations import Application, Registrant, RegistrationDesk
from api.http.application import problem_responses
from api.http.limits import FrameworkRequest, Limits, limited
from api.http.models import ApiModel, QueryText, Timestamp
from domain import canonical
from domain.contracts.registration import RegistrationState
from domain.device_events import EVENT_ID_MAX, NONCE_MAX, NONCE_MIN
from domain.errors import ErrorCode
from domain.limits import (
    REGISTER_ADDRESS,
    REGISTER_CONTACT,
    REGISTER_NETWORK,
    REGISTRATION_ADDRESS,
    REGISTRATION_NETWORK,
)
from domain.registration import CODE_DIGITS
from domain.registrations import ENDED, Registration, RegistrationStage

_CELL_ERRORS = (
    ErrorCode.RATE_LIMITED,
    ErrorCode.WRONG_CELL,
    ErrorCode.CELL_UNAVAILABLE,
    ErrorCode.DIRECTORY_UNAVAILABLE,
    ErrorCode.KEY_UNAVAILABLE,
)
_BEGIN_ERRORS = problem_responses(
    ErrorCode.REGION_NOT_ELIGIBLE,
    ErrorCode.CHALLENGE_FAILED,
    ErrorCode.DEVICE_EVENT_INVALID,
    ErrorCode.DEVICE_REFUSED,
    ErrorCode.CHALLENGES_UNAVAILABLE,
    ErrorCode.DEVICES_UNAVAILABLE,
    ErrorCode.WORKFLOWS_UNAVAILABLE,
    *_CELL_ERRORS,
)
_FOUND_ERRORS = (ErrorCode.REGISTRATION_NOT_FOUND, *_CELL_ERRORS)
_STEP_ERRORS = problem_responses(ErrorCode.REGISTRATION_STAGE, ErrorCode.WORKFLOWS_UNAVAILABLE, *_FOUND_ERRORS)
_CODE_ERRORS = problem_responses(
    ErrorCode.CODE_WRONG, ErrorCode.REGISTRATION_STAGE, ErrorCode.WORKFLOWS_UNAVAILABLE, *_FOUND_ERRORS
)
_ACCESS_ERRORS = problem_responses(ErrorCode.REGISTRATION_STAGE, ErrorCode.PROOFING_UNAVAILABLE, *_FOUND_ERRORS)

_SECRET = HTTPBearer(
    scheme_name="registrationSecret",
    description="`registrationSecret` of a registration's first answer",
    auto_error=False,
)


class BeginBody(ApiModel):
    """Who wants to register, and what shows that this is a person on a device of their own."""

    region: str = Field(min_length=1, max_length=64)
    mail: str = Field(min_length=3, max_length=254, repr=False)
    challenge_token: str = Field(min_length=1, max_length=2048, repr=False)
    challenge_nonce: str = Field(min_length=NONCE_MIN, max_length=NONCE_MAX, repr=False)
    device_event_id: str = Field(min_length=1, max_length=EVENT_ID_MAX)
    cell: str | None = Field(default=None, max_length=16, description="where the account is to be at home")
    locale: str | None = Field(default=None, max_length=35, description="BCP 47")


class CodeBody(ApiModel):
    """The code from the last message."""

    code: str = Field(pattern=rf"^[0-9]{{{CODE_DIGITS}}}$", repr=False)


class EmptyBody(ApiModel):
    """This call takes no fields."""


class BegunBody(ApiModel):
    """A registration that has begun; a code is on its way to the address."""

    registration_id: str
    registration_secret: str = Field(
        repr=False, description="shown this once; sent as `Authorization: Bearer` with everything that follows"
    )
    stage: RegistrationStage = Field(strict=False)
    expires_at: Timestamp | None = None


class StageBody(ApiModel):
    """Where a registration stands."""

    stage: RegistrationStage = Field(strict=False)
    case_no: int = Field(description="of the case at the provider, from 1; an appeal is the next one")


class RegistrationBody(StageBody):
    """A registration as its person sees it."""

    registration_id: str
    reasons: tuple[str, ...] = Field(strict=False, description="codes: why it was refused, or what to do again")
    advice: str = Field(description="what the provider says to the person; text, never markup")
    provider: str = Field(description="of identity proofing; empty before there is a case")
    expires_at: Timestamp | None = Field(description="until when the person can go on, or appeal")


class AccessBody(ApiModel):
    """What the person's client opens the provider's pages or SDK with; good for this case alone."""

    provider: str
    token: str = Field(repr=False)
    expires_at: Timestamp


async def _secret(shown: Annotated[HTTPAuthorizationCredentials | None, Security(_SECRET)]) -> str:
    return "" if shown is None else shown.credentials


RegistrationId = Annotated[QueryText, Path(max_length=64)]
Secret = Annotated[str, Depends(_secret)]


def registration_routes(desk: RegistrationDesk, limits: Limits) -> APIRouter:
    """Return the routes of registration."""
    router = APIRouter(prefix="/v1/registrations", tags=["registration"])
    begins = limits.route(address=REGISTER_ADDRESS, network=REGISTER_NETWORK)
    contacts = limits.subjects(REGISTER_CONTACT)
    counted = Depends(limited(limits.route(address=REGISTRATION_ADDRESS, network=REGISTRATION_NETWORK)))

    @router.post("", status_code=201, summary="Begin to register", responses=_BEGIN_ERRORS)
    async def begin(body: BeginBody, request: Request) -> BegunBody:
        """Begin; the answer is the same whether or not the address has an account."""
        asked = FrameworkRequest(request)
        begins.take(asked)
        contacts.take(asked, canonical.mail(body.mail))
        begun = await desk.begin(
            Application(
                region=body.region,
                mail=body.mail,
                challenge_token=body.challenge_token,
                nonce=body.challenge_nonce,
                device_event_id=body.device_event_id,
                client_address=asked.client,
                cell=body.cell,
            )
        )
        made = begun.registration
        return BegunBody(
            registration_id=made.registration_id,
            registration_secret=begun.secret,
            stage=made.stage,
            expires_at=made.expires_at,
        )

    @router.get(
        "/{registration_id}",
        summary="Read a registration",
        responses=problem_responses(*_FOUND_ERRORS),
        dependencies=[counted],
    )
    async def read(registration_id: RegistrationId, secret: Secret) -> RegistrationBody:
        """Say where a registration stands, and why."""
        found, advice = await desk.get(Registrant(registration_id, secret))
        return _body(found, advice)

    @router.post(
        "/{registration_id}/contact", summary="Prove the address", responses=_CODE_ERRORS, dependencies=[counted]
    )
    async def prove_contact(registration_id: RegistrationId, secret: Secret, body: CodeBody) -> StageBody:
        """Hand in the code that was sent; handed in again, it is good again."""
        return _stage(await desk.prove_contact(Registrant(registration_id, secret), body.code))

    @router.post(
        "/{registration_id}/contact/resend",
        summary="Have another code sent",
        responses=_STEP_ERRORS,
        dependencies=[counted],
    )
    async def resend_code(registration_id: RegistrationId, secret: Secret, _body: EmptyBody | None = None) -> StageBody:
        """Send another code; once it is there, the one before is not good any more."""
        return _stage(await desk.resend_code(Registrant(registration_id, secret)))

    @router.post(
        "/{registration_id}/proofing-access",
        summary="Open the provider's pages",
        responses=_ACCESS_ERRORS,
        dependencies=[counted],
    )
    async def proofing_access(
        registration_id: RegistrationId, secret: Secret, _body: EmptyBody | None = None
    ) -> AccessBody:
        """Return a fresh access; documents go from the client to the provider, and never through here."""
        provider, access = await desk.proofing_access(Registrant(registration_id, secret))
        return AccessBody(provider=provider, token=access.token, expires_at=access.expires_at)

    @router.post("/{registration_id}/appeal", summary="Appeal", responses=_STEP_ERRORS, dependencies=[counted])
    async def appeal(registration_id: RegistrationId, secret: Secret, _body: EmptyBody | None = None) -> StageBody:
        """Ask for a new case after a decision that may be looked at once more."""
        return _stage(await desk.appeal(Registrant(registration_id, secret)))

    @router.delete(
        "/{registration_id}", summary="Cancel a registration", responses=_STEP_ERRORS, dependencies=[counted]
    )
    async def cancel(registration_id: RegistrationId, secret: Secret) -> StageBody:
        """End a registration before there is an account; what is known of the person is destroyed."""
        return _stage(await desk.cancel(Registrant(registration_id, secret)))

    return router


def _stage(state: RegistrationState) -> StageBody:
    return StageBody(stage=state.stage, case_no=state.case_no)


def _body(found: Registration, advice: str) -> RegistrationBody:
    is_over = found.stage in ENDED and found.stage not in {RegistrationStage.REJECTED, RegistrationStage.REFUSED}
    return RegistrationBody(
        registration_id=found.registration_id,
        stage=found.stage,
        case_no=found.case_no,
        reasons=found.reasons,
        advice=advice,
        provider=found.provider,
        expires_at=None if is_over else found.expires_at,
    )
