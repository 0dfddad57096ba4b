"""Tokens that a provider signs for us: ID tokens and logout tokens, each taken as nothing else.

OpenID Connect Core, section 3.1.3.7; Back-Channel Logout, section 2.6; RFC 8725. The algorithm is the provider's one
algorithm in the settings, whatever a token says: so neither `none` nor a MAC under a public key is ever considered.
"""

import hmac
import time
from datetime import timedelta
from typing import Any, Final

import jwt

from domain.errors import DomainError, ErrorCode
from domain.federation import ProviderIdentity, ProviderLogout
from integrations.login.provider_keys import ProviderKeys
from integrations.vendor_settings import IdentityProviderSettings

LEEWAY_S: Final = 30
LOGOUT_AGE_MAX_S: Final = 600  # a token of 120 s is usual
TOKEN_CHARACTERS_MAX: Final = 16_384
_LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
_ID_TOKEN_TYPES: Final = frozenset({"", "jwt"})
_LOGOUT_TOKEN_TYPES: Final = frozenset({"", "jwt", "logout+jwt"})
_TEXT_MAX: Final = 255  # OpenID Connect Core, section 2, for `sub`


class ProviderTokenError(Exception):
    """A token that is not what it must be; the text is a code of ours for logs."""


class ProviderTokens:
    """Verifies the tokens of one provider. Calls raise DomainError `identity_provider_unavailable` without its keys."""

    def __init__(self, name: str, settings: IdentityProviderSettings, keys: ProviderKeys) -> None:
        self._name = name
        self._settings = settings
        self._keys = keys

    async def identity(self, token: str, nonce: str, within: timedelta | None = None) -> ProviderIdentity:
        """Return who an ID token names, which must have been asked for with this nonce.

        With `within` it must say that the person logged in no longer ago (section 3.1.3.7, point 13).

        Raises:
            ProviderTokenError: it is not a good ID token for us.
        """
        claims = await self._claims(token, _ID_TOKEN_TYPES, ["exp", "iat", "iss", "aud", "sub", "nonce"])
        if not isinstance(claims["nonce"], str) or not hmac.compare_digest(claims["nonce"].encode(), nonce.encode()):
            raise ProviderTokenError("nonce")
        if "events" in claims:
            raise ProviderTokenError("kind")
        if within is not None:
            _check_fresh(claims.get("auth_time"), within)
        amr, person = claims.get("amr"), self._settings.person_claim
        return ProviderIdentity(
            provider=self._name,
            issuer=self._settings.issuer,
            subject=_text(claims, "sub"),
            sid=_text(claims, "sid", required=False),
            mail=_text(claims, "email", required=False) if claims.get("email_verified") is True else "",
            person=_text(claims, person, required=False) if person else "",
            with_second_factor=isinstance(amr, list) and "mfa" in amr,
        )

    async def logout(self, token: str) -> ProviderLogout:
        """Return whom a logout token ends the sessions of; that it comes once is the caller's check, by its `jti`.

        Raises:
            ProviderTokenError: it is not a good logout token for us.
        """
        claims = await self._claims(token, _LOGOUT_TOKEN_TYPES, ["exp", "iat", "iss", "aud", "jti", "events"])
        if "nonce" in claims:
            raise ProviderTokenError("nonce")
        events = claims["events"]
        if not isinstance(events, dict) or not isinstance(events.get(_LOGOUT_EVENT), dict):
            raise ProviderTokenError("events")
        if claims["exp"] - claims["iat"] > LOGOUT_AGE_MAX_S:
            raise ProviderTokenError("lifetime")
        sid, subject = _text(claims, "sid", required=False), _text(claims, "sub", required=False)
        if not sid and not subject:
            raise ProviderTokenError("subject")
        return ProviderLogout(self._name, self._settings.issuer, _text(claims, "jti"), sid, subject)

    async def _claims(self, token: str, types: frozenset[str], required: list[str]) -> dict[str, Any]:
        if len(token) > TOKEN_CHARACTERS_MAX:
            raise ProviderTokenError("length")
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError as error:
            raise ProviderTokenError("malformed") from error
        if header.get("alg") != self._settings.algorithm:
            raise ProviderTokenError("algorithm")
        if str(header.get("typ", "")).lower() not in types or "crit" in header:
            raise ProviderTokenError("kind")
        key_id = header.get("kid")
        key = await self._keys.key(key_id) if isinstance(key_id, str) else None
        if key is None:
            raise ProviderTokenError("key")
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[self._settings.algorithm],
                audience=self._settings.client_id,
                issuer=self._settings.issuer,
                leeway=LEEWAY_S,
                options={"require": required, "strict_aud": False, "verify_sub": False},
            )
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise ProviderTokenError(type(error).__name__) from error
        self._check_party(claims)
        return claims

    def _check_party(self, claims: dict[str, Any]) -> None:
        """Refuse a token that was issued to somebody else and only also names us."""
        azp = claims.get("azp")
        if azp is not None and azp != self._settings.client_id:
            raise ProviderTokenError("party")
        if isinstance(claims["aud"], list) and len(claims["aud"]) > 1 and azp is None:
            raise ProviderTokenError("party")


def _check_fresh(auth_time: object, within: timedelta) -> None:
    if not isinstance(auth_time, int) or isinstance(auth_time, bool):
        raise ProviderTokenError("auth_time")
    if not -LEEWAY_S <= time.time() - auth_time <= within.total_seconds() + LEEWAY_S:
        raise ProviderTokenError("auth_time")


def _text(claims: dict[str, Any], name: str, *, required: bool = True) -> str:
    value = claims.get(name, "")
    if not isinstance(value, str) or len(value) > _TEXT_MAX or (required and not value):
        raise ProviderTokenError(name)
    return value


def refused() -> DomainError:
    """Return what is answered to every proof that is not good, whatever it lacks."""
    return DomainError(ErrorCode.LOGIN_FAILED)
