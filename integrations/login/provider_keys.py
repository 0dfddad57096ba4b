"""A provider's discovery document and signing keys: cached, and asked for again no more often than it bears."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import jwt
import structlog
from jwt import PyJWK

from domain.errors import DomainError
from integrations.addresses import is_secure_url
from integrations.vendor_http import JsonObject, VendorHttp
from integrations.vendor_settings import IdentityProviderSettings

FRESH_S: Final = 3600.0
REFETCH_AFTER_S: Final = 10.0  # after an unknown key; Auth0's free plan permits 20 requests a second for everybody
_OK: Final = 200
_KEYS_MAX: Final = 32
_KEY_TYPES: Final = {"RS256": "RSA", "PS256": "RSA", "ES256": "EC"}
_ENDPOINTS: Final = ("authorization_endpoint", "token_endpoint", "jwks_uri")

log = structlog.get_logger(__name__)


class ProviderKeys:
    """One provider's endpoints and keys. Calls raise DomainError `identity_provider_unavailable`."""

    def __init__(
        self,
        settings: IdentityProviderSettings,
        http: VendorHttp,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._http = http
        self._now = now
        self._document: JsonObject = {}
        self._document_at = float("-inf")
        self._keys: dict[str, PyJWK] = {}
        self._keys_at = float("-inf")
        self._failed_at = float("-inf")
        self._reading = asyncio.Lock()

    async def endpoint(self, name: str) -> str:
        """Return an endpoint of the discovery document (`token_endpoint`, ...)."""
        came_at = self._now()
        async with self._reading:
            self._refuse_late(came_at, has_some=bool(self._document))
            return await self._endpoint(name)

    async def key(self, key_id: str) -> PyJWK | None:
        """Return the key of an id, or None; an unknown id makes the keys be read again, once in `REFETCH_AFTER_S`."""
        came_at = self._now()
        async with self._reading:
            self._refuse_late(came_at, has_some=bool(self._keys))
            age_s = self._now() - self._keys_at
            if age_s >= FRESH_S or (key_id not in self._keys and age_s >= REFETCH_AFTER_S):
                await self._read_keys()
            return self._keys.get(key_id)

    def _refuse_late(self, came_at: float, *, has_some: bool) -> None:
        """Refuse who waited for a reading that failed: nobody waits for one provider's silence twice in a row."""
        if not has_some and self._failed_at > came_at:
            raise self._http.unavailable("no answer a moment ago")

    async def _endpoint(self, name: str) -> str:
        if self._now() - self._document_at >= FRESH_S:
            try:
                self._document = await self._discover()
                self._document_at = self._now()
            except DomainError:
                self._failed_at = self._now()
                if not self._document:
                    raise
                self._document_at = self._failed_at - FRESH_S + REFETCH_AFTER_S  # not at every request
                log.warning("provider_not_discovered", issuer=self._settings.issuer)  # what it said before will do
        found: str = self._document[name]
        return found

    async def _discover(self) -> JsonObject:
        url = self._settings.issuer.rstrip("/") + "/.well-known/openid-configuration"
        answer, document = await self._http.send_for_json("GET", url)
        if answer.status != _OK:
            raise self._http.unavailable(f"discovery: status {answer.status}", answer)
        if document.get("issuer") != self._settings.issuer:  # OpenID Connect Discovery, section 4.3
            raise self._http.unavailable("discovery: another issuer")
        if self._settings.token_endpoint:
            document = {**document, "token_endpoint": self._settings.token_endpoint}
        for name in _ENDPOINTS:
            if not isinstance(document.get(name), str) or not is_secure_url(document[name]):
                raise self._http.unavailable(f"discovery: no usable {name}")
        if "S256" not in document.get("code_challenge_methods_supported", ["S256"]):
            raise self._http.unavailable("discovery: no S256")
        return document

    async def _read_keys(self) -> None:
        attempted_at = self._now()
        try:
            answer, found = await self._http.send_for_json("GET", await self._endpoint("jwks_uri"))
            if answer.status != _OK or not isinstance(found.get("keys"), list):
                raise self._http.unavailable(f"keys: status {answer.status}", answer)
        except DomainError:
            self._failed_at = self._now()
            if not self._keys:
                raise
            self._keys_at = max(self._keys_at, attempted_at - FRESH_S + REFETCH_AFTER_S)  # not at every request
            log.warning("provider_keys_unavailable", issuer=self._settings.issuer)
            return
        self._keys = self._usable(found["keys"][:_KEYS_MAX])
        self._keys_at = attempted_at

    def _usable(self, listed: list[object]) -> dict[str, PyJWK]:
        """Return the keys that can sign under the one algorithm of this provider; what is malformed is left out."""
        algorithm = self._settings.algorithm
        keys: dict[str, PyJWK] = {}
        for member in listed:
            if not isinstance(member, dict) or not isinstance(member.get("kid"), str):
                continue
            if member.get("kty") != _KEY_TYPES[algorithm] or member.get("use", "sig") != "sig":
                continue
            if member.get("alg", algorithm) != algorithm or "d" in member:
                continue
            try:
                keys[member["kid"]] = PyJWK.from_dict(member, algorithm=algorithm)
            except (jwt.PyJWTError, ValueError, TypeError, KeyError):
                log.warning("provider_key_malformed", issuer=self._settings.issuer)
        return keys
