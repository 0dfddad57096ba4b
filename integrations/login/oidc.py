"""Logins at any OpenID Connect provider: authorization code with PKCE (RFC 6749, RFC 7636, RFC 9700).

Where the provider sends people back to is in the settings and in no request, so there is nothing to redirect openly.
"""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Final
from urllib.parse import urlencode, urlsplit

import jwt
import structlog

from domain.errors import DomainError, ErrorCode
from domain.federation import (
    TRANSACTION_LIFETIME,
    LoginTransactions,
    ProviderIdentity,
    ProviderLogout,
    cell_of_state,
    challenge_of,
    derived,
    new_state,
)
from integrations.login.exchanges import Exchanges
from integrations.login.provider_keys import ProviderKeys
from integrations.login.provider_tokens import ProviderTokenError, ProviderTokens, refused
from integrations.settings import Settings
from integrations.telemetry.vendor_metrics import VendorMetrics
from integrations.vendor_http import VendorHttp, open_vendor_client
from integrations.vendor_settings import IdentityProviderSettings

_LOGIN, _LINK = "oidc", "oidc_link"
_OK: Final = 200
_REFUSED: Final = (400, 403)  # Auth0 answers `invalid_grant` with either
_CODE_CHARACTERS_MAX: Final = 4096

log = structlog.get_logger(__name__)


class OidcProvider:
    """One provider. Calls raise DomainError `identity_provider_unavailable`."""

    def __init__(self, name: str, settings: IdentityProviderSettings, http: VendorHttp) -> None:
        self._name = name
        self._settings = settings
        self._http = http
        self._keys = ProviderKeys(settings, http)
        self._tokens = ProviderTokens(name, settings, self._keys)

    @property
    def issuer(self) -> str:
        """The issuer's name, exactly as in its tokens."""
        return self._settings.issuer

    @property
    def names_persons(self) -> bool:
        """Tell whether its tokens say which person an account is of."""
        return bool(self._settings.person_claim)

    async def authorization_url(self, state: str, secret: bytes, *, anew: bool = False) -> str:
        """Return where to send somebody to log in; `anew` also who is logged in there."""
        parameters = {
            **self._settings.authorize_parameters,
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": self._settings.redirect_uri,
            "scope": self._settings.scope,
            "state": state,
            "nonce": derived(secret, state, "nonce"),
            "code_challenge": challenge_of(derived(secret, state, "verifier")),
            "code_challenge_method": "S256",
            **({"max_age": "0"} if anew else {}),
        }
        endpoint = await self._keys.endpoint("authorization_endpoint")
        return f"{endpoint}{'&' if urlsplit(endpoint).query else '?'}{urlencode(parameters)}"

    async def identity(
        self, code: str, state: str, secret: bytes, *, within: timedelta | None = None
    ) -> ProviderIdentity:
        """Exchange an authorization code and return who logged in, as `within` says not longer ago than that.

        Raises:
            DomainError: `login_failed`.
        """
        form = {
            "grant_type": "authorization_code",
            "client_id": self._settings.client_id,
            "code": code,
            "code_verifier": derived(secret, state, "verifier"),
            "redirect_uri": self._settings.redirect_uri,
        }
        if self._settings.client_secret is not None:
            form["client_secret"] = self._settings.client_secret.get_secret_value()
        answer, body = await self._http.send_for_json("POST", await self._keys.endpoint("token_endpoint"), data=form)
        if answer.status in _REFUSED and body.get("error") in {"invalid_grant", "access_denied"}:
            raise refused()
        if answer.status != _OK or not isinstance(body.get("id_token"), str):
            raise self._http.unavailable(f"token: status {answer.status}", answer)
        try:
            asked = within if self._settings.auth_time else None
            return await self._tokens.identity(body["id_token"], derived(secret, state, "nonce"), asked)
        except ProviderTokenError as error:
            log.warning("provider_token_refused", provider=self._name, reason=str(error))
            raise refused() from None

    async def logout(self, token: str) -> ProviderLogout:
        """Return what a logout token tells. Raises DomainError `logout_token_invalid`."""
        try:
            return await self._tokens.logout(token)
        except ProviderTokenError as error:
            log.warning("logout_token_refused", provider=self._name, reason=str(error))
            raise DomainError(ErrorCode.LOGOUT_TOKEN_INVALID) from None


class OidcLogins:
    """Begins logins at providers and ends them, each once and by the client that began it."""

    def __init__(self, providers: Mapping[str, OidcProvider]) -> None:
        self._providers = providers
        self._exchanges = Exchanges()

    def provider(self, name: str) -> OidcProvider:
        """Return a provider by its name in the settings. Raises DomainError `not_found`."""
        found = self._providers.get(name)
        if found is None:
            raise DomainError(ErrorCode.NOT_FOUND, "no such identity provider")
        return found

    def of_issuer(self, issuer: str) -> OidcProvider | None:
        """Return the provider of an issuer, or None."""
        return next((provider for provider in self._providers.values() if provider.issuer == issuer), None)

    async def logout(self, token: str) -> ProviderLogout:
        """Return what a logout token of any of the providers tells.

        Raises:
            DomainError: `logout_token_invalid`, `identity_provider_unavailable`.
        """
        provider = self.of_issuer(_issuer_of(token))
        if provider is None:
            raise DomainError(ErrorCode.LOGOUT_TOKEN_INVALID)
        return await provider.logout(token)

    async def begin(
        self, name: str, cell: str, transactions: LoginTransactions, jkt: str, *, voter_id: str = ""
    ) -> str:
        """Return where to send somebody; the answer is taken from the client with the key of this thumbprint alone.

        With `voter_id` it is no login: what comes back is for linking to this voter's account, and for nothing else.
        For that the person logs in anew: whoever is logged in at the provider in this browser may be somebody else.

        Raises:
            DomainError: `not_found`, `identity_provider_unavailable`, `directory_unavailable`.
        """
        provider = self.provider(name)
        state = new_state(cell)
        kind, begun_by = _begun(jkt, voter_id)
        secret = await transactions.begin(kind, state, f"{name} {begun_by}", TRANSACTION_LIFETIME)
        return await provider.authorization_url(state, secret, anew=bool(voter_id))

    async def finish(
        self,
        transactions: LoginTransactions,
        jkt: str,
        *,
        state: str,
        code: str,
        issuer: str = "",
        voter_id: str = "",
    ) -> ProviderIdentity:
        """Return who logged in, for the state and code that came back, and the `iss` of RFC 9207 where one came.

        The state is used up, also where the answer is no, or as many wait for this provider as may: whoever hears so
        begins again there. `transactions` are those of the cell that the state names.

        Raises:
            DomainError: `login_failed`, `identity_provider_unavailable`, `directory_unavailable`.
        """
        if cell_of_state(state) is None or not 1 <= len(code) <= _CODE_CHARACTERS_MAX:
            raise refused()
        kind, expected = _begun(jkt, voter_id)
        transaction = await transactions.take(kind, state)
        if transaction is None:
            raise refused()
        name, _, begun_by = transaction.subject.partition(" ")
        provider = self._providers.get(name)
        if provider is None or begun_by != expected or issuer not in {"", provider.issuer}:
            raise refused()
        begun_ago = TRANSACTION_LIFETIME - transaction.left
        with self._exchanges.place(name):
            return await provider.identity(code, state, transaction.secret, within=begun_ago if kind == _LINK else None)


def _begun(jkt: str, voter_id: str) -> tuple[str, str]:
    """Return the kind of a transaction, and who may finish it: at most 90 characters."""
    return (_LINK, f"{jkt} {voter_id}") if voter_id else (_LOGIN, jkt)


def _issuer_of(token: str) -> str:
    """Return whom a token says to be of, unverified: it selects who verifies it, who then demands the same."""
    try:
        issuer = jwt.decode(token, options={"verify_signature": False}).get("iss", "")
    except (jwt.PyJWTError, ValueError, RecursionError):
        return ""
    return issuer if isinstance(issuer, str) else ""


async def open_providers(
    settings: Settings, lifetime: AsyncExitStack, metrics: VendorMetrics | None = None
) -> OidcLogins:
    """Return the providers of the settings, each with a client of its own that is closed with `lifetime`."""
    named = settings.identity_providers.items()
    return OidcLogins({name: await open_provider(name, provider, lifetime, metrics) for name, provider in named})


async def open_provider(
    name: str, settings: IdentityProviderSettings, lifetime: AsyncExitStack, metrics: VendorMetrics | None = None
) -> OidcProvider:
    """Return one provider with a client of its own, which is closed with `lifetime`."""
    calls = None if metrics is None else metrics.of(name)
    client = await lifetime.enter_async_context(open_vendor_client("", calls=calls))
    http = VendorHttp(client, ErrorCode.IDENTITY_PROVIDER_UNAVAILABLE, timeout_s=settings.timeout_s)
    return OidcProvider(name, settings, http)
