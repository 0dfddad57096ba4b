"""What a provider says of itself, and of its keys: nothing is taken from another issuer, off the wire, or in part."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from domain.errors import DomainError, ErrorCode
from integrations.login.provider_keys import ProviderKeys
from integrations.vendor_http import VendorAnswer
from integrations.vendor_settings import IdentityProviderSettings

ISSUER = "https://id.example.org/"
DOCUMENT = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}authorize",
    "token_endpoint": f"{ISSUER}token",
    "jwks_uri": f"{ISSUER}keys",
}


def jwk(**changes: Any) -> dict[str, Any]:
    private = ec.generate_private_key(ec.SECP256R1())
    public: dict[str, Any] = json.loads(ECAlgorithm.to_jwk(private.public_key()))
    return {"kid": "one", **public, **changes}


class Provider:
    """Answers with a document and with keys."""

    def __init__(self, document: dict[str, Any], keys: list[Any]) -> None:
        self._answers = {f"{ISSUER}.well-known/openid-configuration": document, f"{ISSUER}keys": {"keys": keys}}

    async def send_for_json(self, method: str, url: str) -> tuple[VendorAnswer, dict[str, Any]]:
        assert method == "GET"
        return VendorAnswer(200, b""), self._answers[url]

    def unavailable(self, detail: str, _answer: VendorAnswer | None = None) -> DomainError:
        return DomainError(ErrorCode.IDENTITY_PROVIDER_UNAVAILABLE, detail)


def keys_of(document: dict[str, Any] | None = None, *keys: Any) -> ProviderKeys:
    settings = IdentityProviderSettings.model_validate(
        {
            "issuer": ISSUER,
            "client_id": "comitia",
            "client_secret": "secret",
            "redirect_uri": "https://vote.example.org/back",
            "algorithm": "ES256",
        }
    )
    return ProviderKeys(settings, Provider(document or DOCUMENT, list(keys)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "https://id.example.com/"},
        {"issuer": ISSUER.rstrip("/")},
        {"issuer": None},
        {"token_endpoint": "http://id.example.org/token"},
        {"authorization_endpoint": "http://id.example.org/authorize"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"jwks_uri": "http://id.example.org/keys"},
        {"jwks_uri": None},
        {"code_challenge_methods_supported": ["plain"]},
    ],
)
async def test_a_provider_that_says_another_thing_of_itself_than_it_must_is_asked_nothing(
    changes: dict[str, Any],
) -> None:
    keys = keys_of({**DOCUMENT, **changes}, jwk())
    for ask in (lambda: keys.endpoint("authorization_endpoint"), lambda: keys.key("one")):
        with pytest.raises(DomainError) as raised:
            await ask()
        assert raised.value.code is ErrorCode.IDENTITY_PROVIDER_UNAVAILABLE


async def test_a_key_that_signs_under_the_algorithm_of_the_provider_is_taken() -> None:
    for listed in (jwk(), jwk(use="sig", alg="ES256")):
        assert await keys_of(None, listed).key("one") is not None
        assert await keys_of(None, {"kid": "one"}, "nonsense", listed).key("one") is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"use": "enc"},
        {"alg": "ES384"},
        {"alg": "HS256"},
        {"kty": "oct", "k": "c2VjcmV0"},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
        {"x": "AA"},
        {"kid": 1},
    ],
)
async def test_a_key_of_another_kind_is_none(changes: dict[str, Any]) -> None:
    assert await keys_of(None, jwk(**changes)).key("one") is None


async def test_a_key_that_everybody_can_sign_with_is_none() -> None:
    private: dict[str, Any] = json.loads(ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1())))
    assert await keys_of(None, {**private, "kid": "one"}).key("one") is None
