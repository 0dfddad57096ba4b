"""The key set: what it lists verifies our tokens, also in the middle of a rotation."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import jwt
import pytest

from api.auth.app import create_app
from api.auth.key_routes import MAX_AGE_S, key_routes
from integrations.keys.access_tokens import AccessTokens
from integrations.keys.file_kms import FileKms
from integrations.keys.purposes import ACCESS_TOKEN, STAFF_TOKEN, manage
from integrations.keys.signing import VerificationKeys
from integrations.settings import Environment, Settings
from integrations.telemetry.telemetry import make_telemetry
from tests.limits_world import lonely_limits

VOTER = "v_eu_" + "a" * 26


@pytest.fixture
def kms(tmp_path: Path) -> FileKms:
    return FileKms(tmp_path, frozenset({ACCESS_TOKEN, STAFF_TOKEN, manage(ACCESS_TOKEN)}))


@pytest.fixture
def keys(kms: FileKms) -> VerificationKeys:
    return VerificationKeys(kms, ACCESS_TOKEN)


@pytest.fixture
async def client(keys: VerificationKeys) -> AsyncIterator[httpx.AsyncClient]:
    telemetry = make_telemetry(Settings(environment=Environment.TEST), "auth")
    app = create_app([key_routes(keys, lonely_limits())], telemetry=telemetry)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://auth.test") as made:
        yield made


async def verifies(client: httpx.AsyncClient, token: str) -> bool:
    """Verify a token as a stranger would: by the key set alone, with a library that is not ours."""
    listed = jwt.PyJWKSet.from_dict((await client.get("/.well-known/jwks.json")).json())
    key = listed[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, algorithms=["EdDSA"], audience="voters", issuer="comitia/auth")
    return bool(claims["exp"] > time.time())


async def test_tokens_verify_before_during_and_after_a_rotation(
    client: httpx.AsyncClient, kms: FileKms, keys: VerificationKeys
) -> None:
    tokens = AccessTokens(kms)
    await tokens.refresh()
    await keys.refresh()
    before = tokens.voter(VOTER, "eu", "DE")
    assert await verifies(client, before)
    await kms.rotate(ACCESS_TOKEN)
    await keys.refresh()
    await tokens.refresh()
    during = tokens.voter(VOTER, "eu", "DE")  # the new key is listed for a while before it signs
    assert jwt.get_unverified_header(during)["kid"] == jwt.get_unverified_header(before)["kid"]
    await tokens.refresh()
    after = tokens.voter(VOTER, "eu", "DE")
    assert jwt.get_unverified_header(after)["kid"] != jwt.get_unverified_header(before)["kid"]
    for token in (before, during, after):
        assert await verifies(client, token)
    answer = await client.get("/.well-known/jwks.json")
    assert answer.headers["cache-control"] == f"public, max-age={MAX_AGE_S}"
    assert all("d" not in key for key in answer.json()["keys"])
