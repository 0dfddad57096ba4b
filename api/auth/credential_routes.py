"""Credentials over HTTP: what a voter logs in with, changed by who has logged in within a quarter of an hour."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from pydantic import Field

from api.auth.credentials import CredentialDesk
from api.auth.session_routes import SessionLimits
from api.http.access import VOTER_RESPONSES
from api.http.application import problem_responses
from api.http.limits import Limits
from api.http.models import ApiModel, QueryText, Timestamp
from domain.credentials import PASSWORD_CHARACTERS_MAX, CredentialKind
from domain.errors import ErrorCode
from domain.limits import ACCOUNT_VOTER
from domain.tokens import VoterClaims

_CELL_ERRORS = (ErrorCode.WRONG_CELL, ErrorCode.CELL_UNAVAILABLE, ErrorCode.DIRECTORY_UNAVAILABLE)


def change_errors(*codes: ErrorCode) -> dict[int | str, dict[str, Any]]:
    """Return the documented errors of a change by a voter, with these besides."""
    return {**VOTER_RESPONSES, **problem_responses(ErrorCode.STEP_UP_REQUIRED, *_CELL_ERRORS, *codes)}


_SEALED = (ErrorCode.KEY_UNAVAILABLE, ErrorCode.KEY_DESTROYED)


class PasswordBody(ApiModel):
    """A new password: at least 15 characters, with no other rule."""

    password: str = Field(min_length=1, max_length=4 * PASSWORD_CHARACTERS_MAX, repr=False)


class PasskeyBody(ApiModel):
    """What the browser answered, as JSON."""

    passkey: dict[str, Any] = Field(repr=False, description="`PublicKeyCredential.toJSON()`")


class TotpCodeBody(ApiModel):
    """The code that the app shows."""

    code: str = Field(pattern=r"^[0-9]{6}$", repr=False)


class EmptyBody(ApiModel):
    """This call takes no fields."""


class CredentialBody(ApiModel):
    """A credential as its voter sees it."""

    credential_id: str
    kind: CredentialKind = Field(strict=False)
    confirmed: bool = Field(description="an authenticator app counts once its first code was good")
    created_at: Timestamp


class CredentialsBody(ApiModel):
    """What a voter logs in with; a code by mail needs nothing of it."""

    credentials: tuple[CredentialBody, ...] = Field(strict=False)
    recovery_codes_left: int


class OptionsBody(ApiModel):
    """What the browser makes a passkey from."""

    options: dict[str, Any] = Field(description="`PublicKeyCredentialCreationOptions` as JSON")


class TotpBody(ApiModel):
    """What an authenticator app is set up with, shown this once."""

    uri: str = Field(repr=False, description="`otpauth:` address, to be shown as a picture")


class RecoveryCodesBody(ApiModel):
    """Codes to write down, each good once in place of the app's, shown this once."""

    codes: tuple[str, ...] = Field(strict=False, repr=False)


def credential_routes(
    desk: CredentialDesk, voter: Callable[..., Awaitable[VoterClaims]], limits: Limits, cells: Sequence[str]
) -> APIRouter:
    """Return the routes; `voter` lets in voters by access token."""
    router = APIRouter(prefix="/v1/account", tags=["account"])
    counted = SessionLimits(limits, cells, own=ACCOUNT_VOTER)

    by_voter = Annotated[VoterClaims, Depends(counted.counted(voter))]

    @router.get(
        "/credentials",
        summary="What the voter logs in with",
        responses={**VOTER_RESPONSES, **problem_responses(*_CELL_ERRORS)},
    )
    async def credentials(claims: by_voter) -> CredentialsBody:
        held = await desk.of_voter(claims)
        return CredentialsBody(
            credentials=tuple(
                CredentialBody(
                    credential_id=found.credential_id,
                    kind=found.kind,
                    confirmed=found.confirmed,
                    created_at=found.created_at,
                )
                for found in held.credentials
            ),
            recovery_codes_left=held.recovery_codes,
        )

    @router.delete(
        "/credentials/{id}",
        status_code=204,
        summary="Remove a credential",
        responses=change_errors(ErrorCode.FACTOR_NOT_FOUND, ErrorCode.LAST_CREDENTIAL),
    )
    async def remove(id: Annotated[QueryText, Path(max_length=64)], claims: by_voter) -> None:  # noqa: A002 - in the address
        """Remove a credential; the last password, passkey or login at a provider stays."""
        await desk.remove(claims, id)

    @router.put(
        "/password",
        status_code=204,
        summary="Set the password",
        responses=change_errors(ErrorCode.PASSWORD_NOT_ACCEPTED, ErrorCode.BREACHES_UNAVAILABLE),
    )
    async def set_password(body: PasswordBody, claims: by_voter) -> None:
        """Set or replace the password; every other session ends."""
        await desk.set_password(claims, body.password)

    @router.post(
        "/passkeys/options",
        summary="Begin to add a passkey",
        responses=change_errors(ErrorCode.FACTOR_NOT_FOUND, ErrorCode.KEY_UNAVAILABLE),
    )
    async def passkey_options(claims: by_voter, _body: EmptyBody | None = None) -> OptionsBody:
        return OptionsBody(options=await desk.begin_passkey(claims))

    @router.post(
        "/passkeys",
        status_code=204,
        summary="Add a passkey",
        responses=change_errors(ErrorCode.PASSKEY_NOT_ACCEPTED, ErrorCode.FACTOR_NOT_FOUND, *_SEALED),
    )
    async def add_passkey(body: PasskeyBody, claims: by_voter) -> None:
        await desk.add_passkey(claims, body.passkey)

    @router.post("/totp", summary="Begin to use an authenticator app", responses=change_errors(*_SEALED))
    async def begin_totp(claims: by_voter, _body: EmptyBody | None = None) -> TotpBody:
        """Return what the app is set up with; the app before does not count any more."""
        return TotpBody(uri=await desk.begin_totp(claims))

    @router.post(
        "/totp/confirm",
        status_code=204,
        summary="Finish with an authenticator app",
        responses=change_errors(ErrorCode.CODE_WRONG, ErrorCode.KEY_UNAVAILABLE),
    )
    async def confirm_totp(body: TotpCodeBody, claims: by_voter) -> None:
        await desk.confirm_totp(claims, body.code)

    @router.post("/recovery-codes", summary="Have new recovery codes", responses=change_errors())
    async def renew_recovery_codes(claims: by_voter, _body: EmptyBody | None = None) -> RecoveryCodesBody:
        """Return new codes; those before are not good any more."""
        return RecoveryCodesBody(codes=tuple(await desk.renew_recovery_codes(claims)))

    return router
