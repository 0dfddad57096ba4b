"""Recovery and deletion of accounts over HTTP."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from pydantic import Field, model_validator

from api.auth.credential_routes import EmptyBody, OptionsBody, change_errors
from api.auth.deletions import DeletionDesk
from api.auth.recovery import RecoveryAsked, RecoveryDesk
from api.auth.session_routes import SessionLimits
from api.http.application import problem_responses
from api.http.limits import FrameworkRequest, Limits, limited
from api.http.models import ApiModel, QueryText, Timestamp
from domain import canonical
from domain.account_ends import Deletion, DeletionStage
from domain.credentials import PASSWORD_CHARACTERS_MAX
from domain.device_events import EVENT_ID_MAX, NONCE_MAX, NONCE_MIN
from domain.errors import ErrorCode
from domain.limits import (
    ACCOUNT_ADDRESS,
    ACCOUNT_NETWORK,
    ACCOUNT_VOTER,
    RECOVER_ADDRESS,
    RECOVER_CONTACT,
    RECOVER_NETWORK,
)
from domain.tokens import VoterClaims

_ASK_ERRORS = problem_responses(
    ErrorCode.CHALLENGE_FAILED,
    ErrorCode.DEVICE_EVENT_INVALID,
    ErrorCode.DEVICE_REFUSED,
    ErrorCode.RATE_LIMITED,
    ErrorCode.CHALLENGES_UNAVAILABLE,
    ErrorCode.DEVICES_UNAVAILABLE,
    ErrorCode.KEY_UNAVAILABLE,
    ErrorCode.CELL_UNAVAILABLE,
    ErrorCode.WORKFLOWS_UNAVAILABLE,
)
_LINK_ERRORS = (
    ErrorCode.RECOVERY_LINK_INVALID,
    ErrorCode.FACTOR_NOT_FOUND,
    ErrorCode.RATE_LIMITED,
    ErrorCode.CELL_UNAVAILABLE,
    ErrorCode.DIRECTORY_UNAVAILABLE,
    ErrorCode.KEY_UNAVAILABLE,
)
_FINISH_ERRORS = problem_responses(
    ErrorCode.PASSWORD_NOT_ACCEPTED, ErrorCode.PASSKEY_NOT_ACCEPTED, ErrorCode.BREACHES_UNAVAILABLE, *_LINK_ERRORS
)
_DELETION_ERRORS = problem_responses(
    ErrorCode.DELETION_NOT_FOUND,
    ErrorCode.RATE_LIMITED,
    ErrorCode.WRONG_CELL,
    ErrorCode.CELL_UNAVAILABLE,
    ErrorCode.DIRECTORY_UNAVAILABLE,
)

LinkToken = Annotated[QueryText, Path(max_length=80, description="from the link that was sent")]


class AskBody(ApiModel):
    """Which account is lost, and what shows that this is a person."""

    mail: str = Field(min_length=3, max_length=254, repr=False)
    challenge_token: str = Field(min_length=1, max_length=2048, repr=False)
    challenge_nonce: str = Field(min_length=NONCE_MIN, max_length=NONCE_MAX, repr=False)
    device_event_id: str = Field(min_length=1, max_length=EVENT_ID_MAX)


class AskedBody(ApiModel):
    """The same whether or not the address has an account."""

    asked: bool = True


class FinishBody(ApiModel):
    """What to log in with from now on: a password or a passkey."""

    password: str = Field(default="", max_length=4 * PASSWORD_CHARACTERS_MAX, repr=False)
    passkey: dict[str, Any] | None = Field(default=None, repr=False, description="`PublicKeyCredential.toJSON()`")

    @model_validator(mode="after")
    def _is_one(self) -> "FinishBody":
        if bool(self.password) == (self.passkey is not None):
            raise ValueError("a password or a passkey")
        return self


class DeletionBody(ApiModel):
    """How far a deletion is; completed, it is the certificate of what there was and is no more."""

    deletion_id: str
    stage: DeletionStage = Field(strict=False)
    requested_at: Timestamp
    completed_at: Timestamp | None = None
    sessions_ended: int
    cases_erased: int = Field(description="at the provider of identity proofing, which has confirmed each")
    devices_erased: int = Field(description="at the vendor of device checks; those that others use stay known")
    credentials_removed: int


def account_routes(
    recovery: RecoveryDesk,
    deletions: DeletionDesk,
    voter: Callable[..., Awaitable[VoterClaims]],
    limits: Limits,
    cells: Sequence[str],
) -> APIRouter:
    """Return the routes; `voter` lets in voters by access token."""
    router = APIRouter(prefix="/v1/account", tags=["account"])
    asks = limits.route(address=RECOVER_ADDRESS, network=RECOVER_NETWORK)
    contacts = limits.subjects(RECOVER_CONTACT)
    counted = Depends(limited(limits.route(address=ACCOUNT_ADDRESS, network=ACCOUNT_NETWORK)))
    of_voters = SessionLimits(limits, cells, own=ACCOUNT_VOTER)

    by_voter = Annotated[VoterClaims, Depends(of_voters.counted(voter))]

    @router.post("/recovery", status_code=202, summary="Ask for a link to an account", responses=_ASK_ERRORS)
    async def ask(body: AskBody, request: Request) -> AskedBody:
        """Have a link sent; the answer is the same whether or not the address has an account."""
        told = FrameworkRequest(request)
        asks.take(told)
        contacts.take(told, canonical.mail(body.mail))
        await recovery.ask(
            RecoveryAsked(
                mail=body.mail,
                challenge_token=body.challenge_token,
                nonce=body.challenge_nonce,
                device_event_id=body.device_event_id,
                client_address=told.client,
            )
        )
        return AskedBody()

    @router.post(
        "/recovery/{token}/passkey-options",
        summary="Begin to add a passkey with a link",
        responses=problem_responses(*_LINK_ERRORS),
        dependencies=[counted],
    )
    async def passkey_options(token: LinkToken, _body: EmptyBody | None = None) -> OptionsBody:
        return OptionsBody(options=await recovery.begin_passkey(token))

    @router.post(
        "/recovery/{token}",
        status_code=204,
        summary="Use a link",
        responses=_FINISH_ERRORS,
        dependencies=[counted],
    )
    async def finish(token: LinkToken, body: FinishBody) -> None:
        """Replace what the account is logged in to with; every session ends, and late additions are removed.

        Those are passkeys and logins at identity providers of the last 30 days. An authenticator app stays.
        """
        await recovery.finish(token, body.password, body.passkey)

    @router.delete("", status_code=202, summary="Delete the account", responses=change_errors())
    async def delete(claims: by_voter) -> DeletionBody:
        """Begin to delete the account; there is no way back, and votes that were cast stay counted."""
        return _body(await deletions.delete(claims))

    @router.get(
        "/deletions/{id}", summary="Read how far a deletion is", responses=_DELETION_ERRORS, dependencies=[counted]
    )
    async def read(id: Annotated[QueryText, Path(max_length=64)]) -> DeletionBody:  # noqa: A002 - in the address
        """Return the deletion to whoever knows its id; nothing in it says who it is of."""
        return _body(await deletions.get(id))

    return router


def _body(found: Deletion) -> DeletionBody:
    return DeletionBody(
        deletion_id=found.deletion_id,
        stage=found.stage,
        requested_at=found.requested_at,
        completed_at=found.completed_at,
        sessions_ended=found.sessions_ended,
        cases_erased=found.cases_erased,
        devices_erased=found.devices_erased,
        credentials_removed=found.credentials_removed,
    )
