"""What logins send and are answered."""

from typing import Any, Literal

from pydantic import Field, model_validator

from api.auth.session_routes import TokensBody, tokens_body
from api.auth.sessions import Tokens
from api.http.models import ApiModel
from domain.contracts.login import StepUpFactor
from domain.device_events import EVENT_ID_MAX, NONCE_MAX, NONCE_MIN, SEALED_EVENT_MAX
from domain.sessions import LoginMethod

_NEEDED = {
    LoginMethod.PASSWORD: ("mail", "password"),
    LoginMethod.MAIL_CODE: ("mail", "code"),
    LoginMethod.PASSKEY: ("passkey",),
    LoginMethod.OIDC: ("state", "code"),
}


class LoginBody(ApiModel):
    """Who wants to log in, by one method, and what shows that this is a person on a device of their own."""

    method: LoginMethod = Field(strict=False)
    challenge_token: str = Field(min_length=1, max_length=2048, repr=False)
    nonce: str = Field(
        min_length=NONCE_MIN,
        max_length=NONCE_MAX,
        repr=False,
        description="the one that challenge and device event were made for; of a mail code also that of its request",
    )
    device_event_id: str = Field(min_length=1, max_length=EVENT_ID_MAX)
    device_result: str = Field(
        default="",
        max_length=SEALED_EVENT_MAX,
        repr=False,
        description="the same event as the vendor sealed it for us, where it does: then the vendor is not asked",
    )
    mail: str = Field(default="", max_length=254, repr=False, description="of `password` and `mail_code`")
    password: str = Field(default="", max_length=1024, repr=False)
    code: str = Field(default="", max_length=4096, repr=False, description="of `mail_code` and `oidc`")
    passkey: dict[str, Any] = Field(
        default_factory=dict, repr=False, description="`AuthenticationResponseJSON` of WebAuthn"
    )
    state: str = Field(default="", max_length=128, repr=False, description="of `oidc`, as it came back")
    issuer: str = Field(default="", max_length=512, description="of `oidc`: `iss` (RFC 9207), where it came back")
    cell: str | None = Field(default=None, max_length=16, description="where the account is at home, if that is known")

    @model_validator(mode="after")
    def _is_whole(self) -> "LoginBody":
        missing = [name for name in _NEEDED[self.method] if not getattr(self, name)]
        if missing:
            raise ValueError(f"{self.method} needs {', '.join(missing)}")
        return self


class CodeRequestBody(ApiModel):
    """Asks for a code by mail; the login that uses it comes with the same nonce."""

    mail: str = Field(min_length=3, max_length=254, repr=False)
    nonce: str = Field(min_length=NONCE_MIN, max_length=NONCE_MAX, repr=False)
    challenge_token: str = Field(min_length=1, max_length=2048, repr=False)
    cell: str | None = Field(default=None, max_length=16, description="where the account is at home, if that is known")


class PasskeyRequestBody(ApiModel):
    """Asks for the options of a login by passkey."""

    cell: str | None = Field(default=None, max_length=16, description="which is to keep the challenge; any will do")


class PasskeyOptionsBody(ApiModel):
    """What the browser's `navigator.credentials.get` takes."""

    options: dict[str, Any] = Field(description="`PublicKeyCredentialRequestOptionsJSON` of WebAuthn")


class SentBody(ApiModel):
    """A message is on its way, if there is somebody whom it is for."""


class LoggedInBody(TokensBody):
    """The tokens of a login that was let in."""

    decision: Literal["ALLOW"] = "ALLOW"


class ChallengedBody(ApiModel):
    """A login that needs a further factor, within ten minutes and by the same client."""

    decision: Literal["CHALLENGE"] = "CHALLENGE"
    attempt_id: str
    factors: tuple[StepUpFactor, ...] = Field(strict=False, description="those that the voter has; one is enough")


class StepUpBody(ApiModel):
    """A further factor: its code (or password), or a passkey's answer. `idp` takes neither."""

    factor: StepUpFactor = Field(strict=False)
    code: str = Field(default="", max_length=1024, repr=False)
    passkey: dict[str, Any] = Field(
        default_factory=dict, repr=False, description="`AuthenticationResponseJSON` of WebAuthn"
    )


def logged_in_body(tokens: Tokens) -> LoggedInBody:
    """Return tokens as a login is answered."""
    return LoggedInBody(**tokens_body(tokens).model_dump())
