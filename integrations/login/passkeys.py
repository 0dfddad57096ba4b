"""Passkeys (WebAuthn level 2): of our domain and pages alone, for challenges that we gave out just now, each once."""

import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog
from webauthn import (
    generate_authentication_options,
    generate_registration_options,
    options_to_json,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from domain.accounts import PersonalData, VoterSeals
from domain.credentials import Credential, CredentialKind, Credentials, NewPasskey
from domain.federation import LoginTransactions, Transaction, cell_of_state, new_state
from domain.mailing import MessageKind
from integrations.vendor_settings import PasskeySettings

CHALLENGE_LIFETIME: Final = timedelta(minutes=5)
PASSKEYS_MAX: Final = 10  # of one voter
ANYBODY: Final = "anybody"  # the subject of a login of which the passkey will say who it is
_REGISTRATION, _LOGIN = "passkey_registration", "passkey"
_ID, _KEY = "passkey_id", "passkey_key"
_RESPONSE_CHARACTERS_MAX: Final = 32_768
_NONE: Final = timedelta(0)
# What the library raises for answers that are none, of whatever types and however deep
_UNREADABLE: Final = (
    WebAuthnException,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    RecursionError,
)

JsonObject = dict[str, Any]
log = structlog.get_logger(__name__)


class Passkeys:
    """Registers and checks the passkeys of one cell; their ids and public keys are sealed under the voter's key."""

    def __init__(
        self,
        cell: str,
        settings: PasskeySettings,
        credentials: Credentials,
        seals: VoterSeals,
        begun: LoginTransactions,
    ) -> None:
        self._cell = cell
        self._settings = settings
        self._credentials = credentials
        self._seals = seals
        self._begun = begun

    async def begin_registration(self, voter_id: str, account: str, *, doubted_for: timedelta = _NONE) -> JsonObject:
        """Return `PublicKeyCredentialCreationOptions` for a voter; `account` is what the authenticator shows.

        Passkeys that were added within `doubted_for` are taken for gone: who finishes this removes them.
        """
        options = generate_registration_options(
            rp_id=self._settings.rp_id,
            rp_name=self._settings.rp_name,
            user_id=hashlib.sha256(voter_id.encode()).digest(),
            user_name=account,
            challenge=await self._challenge(_REGISTRATION, voter_id),
            timeout=int(CHALLENGE_LIFETIME.total_seconds() * 1000),
            exclude_credentials=await self._descriptors(voter_id, doubted_for),
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.PREFERRED, user_verification=UserVerificationRequirement.REQUIRED
            ),
        )
        return _json(options_to_json(options))

    async def finish_registration(self, voter_id: str, response: JsonObject, session_id: str = "") -> bool:
        """Keep the passkey of a response to this voter's challenge; False where it is not good, or is known.

        `session_id` as in `Credentials.put`.
        """
        made = await self.checked_registration(voter_id, response)
        if made is None:
            return False
        return await self._credentials.put(
            voter_id,
            CredentialKind.PASSKEY,
            made.sealed,
            handle=made.handle,
            counter=made.counter,
            notice=MessageKind.PASSKEY_ADDED,
            session_id=session_id,
        )

    async def checked_registration(
        self, voter_id: str, response: JsonObject, *, doubted_for: timedelta = _NONE
    ) -> NewPasskey | None:
        """Return the passkey of a response to this voter's challenge for keeping; None where it is not good.

        None also where the voter has `PASSKEYS_MAX`; `doubted_for` as in `begin_registration`.
        """
        challenge, begun = await self._taken(_REGISTRATION, response)
        if begun is None or begun.subject != voter_id:
            return None
        try:
            made = verify_registration_response(
                credential=response,
                expected_challenge=challenge.encode(),
                expected_rp_id=self._settings.rp_id,
                expected_origin=list(self._settings.origins),
                require_user_verification=True,
            )
        except _UNREADABLE as error:
            log.info("passkey_refused", reason=type(error).__name__)
            return None
        if len(await self._kept(voter_id, doubted_for)) >= PASSKEYS_MAX:
            return None
        fields = {_ID: _text(made.credential_id), _KEY: _text(made.credential_public_key)}
        sealed = await self._seals.seal(voter_id, PersonalData(fields))
        return NewPasskey(sealed, _handle(made.credential_id), made.sign_count)

    async def begin_login(self, voter_id: str = "") -> JsonObject:
        """Return `PublicKeyCredentialRequestOptions`, for one voter's passkeys or for whoever has one."""
        options = generate_authentication_options(
            rp_id=self._settings.rp_id,
            challenge=await self._challenge(_LOGIN, voter_id or ANYBODY),
            timeout=int(CHALLENGE_LIFETIME.total_seconds() * 1000),
            allow_credentials=await self._descriptors(voter_id) if voter_id else None,
            user_verification=UserVerificationRequirement.REQUIRED,
        )
        return _json(options_to_json(options))

    async def finish_login(self, response: JsonObject) -> str | None:
        """Return the voter whose passkey answered a challenge, or None; the challenge is used up in any case.

        A signature counter that does not grow is of a copy (WebAuthn, section 6.1.1), unless both are 0.
        """
        return await self.answered(response, await self.taken(response))

    async def taken(self, response: JsonObject) -> Transaction | None:
        """Return what was kept of the login whose challenge is answered, and use it up; or None."""
        return (await self._taken(_LOGIN, response))[1]

    async def answered(self, response: JsonObject, begun: Transaction | None) -> str | None:
        """Return the voter of this cell whose passkey answered the challenge of `begun`, of whatever cell; or None.

        What answers a challenge of anybody may be a passkey of any cell: the others find none of theirs.
        """
        challenge, credential = challenge_in(response), await self._of(response)
        if begun is None or credential is None or begun.subject not in {ANYBODY, credential.voter_id}:
            return None
        opened = await self._seals.unseal(credential.voter_id, credential.secret)
        if opened is None:
            return None
        try:
            answered = verify_authentication_response(
                credential=response,
                expected_challenge=challenge.encode(),
                expected_rp_id=self._settings.rp_id,
                expected_origin=list(self._settings.origins),
                credential_public_key=_bytes(opened.fields[_KEY]),
                credential_current_sign_count=credential.counter,
                require_user_verification=True,
            )
        except _UNREADABLE as error:
            log.info("passkey_refused", reason=type(error).__name__)
            await self._credentials.failed(credential)
            return None
        # Of two answers with one counter, to two challenges at once, one is of a copy
        if not await self._credentials.succeeded(credential, answered.new_sign_count):
            return None
        return credential.voter_id

    async def _challenge(self, kind: str, subject: str) -> bytes:
        state = new_state(self._cell)
        await self._begun.begin(kind, state, subject, CHALLENGE_LIFETIME)
        return state.encode()

    async def _taken(self, kind: str, response: JsonObject) -> tuple[str, Transaction | None]:
        """Return the challenge that a response answers, and what was kept of it, once."""
        challenge = challenge_in(response)
        if cell_of_state(challenge) != self._cell or _is_too_large(response):
            return challenge, None
        return challenge, await self._begun.take(kind, challenge)

    async def _of(self, response: JsonObject) -> Credential | None:
        try:
            handle = _handle(_bytes(response["rawId"]))
        except (KeyError, TypeError, ValueError):
            return None
        return await self._credentials.by_handle(CredentialKind.PASSKEY, handle)

    async def _kept(self, voter_id: str, doubted_for: timedelta) -> list[Credential]:
        """Return the passkeys that are not in doubt."""
        since = datetime.now(UTC) - doubted_for
        found = await self._credentials.of(voter_id, CredentialKind.PASSKEY)
        return [each for each in found if not doubted_for or each.created_at <= since]

    async def _descriptors(self, voter_id: str, doubted_for: timedelta = _NONE) -> list[PublicKeyCredentialDescriptor]:
        found = []
        for credential in await self._kept(voter_id, doubted_for):
            opened = await self._seals.unseal(voter_id, credential.secret)
            if opened is not None:
                found.append(PublicKeyCredentialDescriptor(id=_bytes(opened.fields[_ID])))
        return found


def challenge_in(response: JsonObject) -> str:
    """Return the challenge that a response says to answer, unverified, or an empty text: it names the cell."""
    try:
        client_data = json.loads(_bytes(response["response"]["clientDataJSON"]))
        return _bytes(client_data["challenge"]).decode("ascii")
    except (KeyError, TypeError, ValueError, RecursionError):
        return ""


def _is_too_large(response: JsonObject) -> bool:
    try:
        return len(json.dumps(response)) > _RESPONSE_CHARACTERS_MAX
    except RecursionError:
        return True


def _handle(credential_id: bytes) -> bytes:
    return hashlib.sha256(credential_id).digest()


def _text(content: bytes) -> str:
    return urlsafe_b64encode(content).decode("ascii").rstrip("=")


def _bytes(text: str) -> bytes:
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except Error as error:
        raise ValueError("not base64url") from error


def _json(text: str) -> JsonObject:
    found: JsonObject = json.loads(text)
    return found
