import httpx
import pytest

from integrations.identity.sumsub.signing import SumsubAuth, request_signature

VECTORS = [
    (
        "api_secret",
        ("1712760187", "POST", "/resources/accessTokens", '{"userId":"1000","levelName":"default","ttl":60}'),
        "260c8893fb0317e8a714ce3bce9c16821649f1e27a49bd7d926fcf23942628c0",
    ),
    (
        "Hej2ch71kG2kTd1iIUDZFNsO5C1lh5Gq",
        ("1599219016", "POST", "/resources/accessTokens", '{"userId": "123"}'),
        "600e8a7e7d46253d468afed77a578e0e89daef2dfd580161d86d7b949b7cb4c1",
    ),
    (
        "Hej2ch71kG2kTd1iIUDZFNsO5C1lh5Gq",
        ("1599219016", "POST", "/resources/accessTokens?name=value", '{"userId": "123"}'),
        "3f559b485473b32b8e4d0a422fa6201fdb4839e4d23a66d2fb24c97b7baf6a12",
    ),
    (
        "Hej2ch71kG2kTd1iIUDZFNsO5C1lh5Gq",
        (
            "1607551635",
            "POST",
            "/resources/accessTokens?userId=cfd20712-24a2-4c7d-9ab0-146f3c142335&levelName=basic-kyc-level&ttlInSecs=600",
            "",
        ),
        "1e1856be1c1e1ff113e5664acac6b423ffefe04ad42ff36567622ef56f62c4b1",
    ),
    (
        "test-secret",
        (
            "1700000000",
            "POST",
            "/resources/accessTokens/sdk",
            '{"userId":"u-1","levelName":"basic-kyc-level","ttlInSecs":600}',
        ),
        "e13b0d77288cab95f82cc8a33eb6358d42cbe33717bde88a789f57000b9db6dc",
    ),
    (
        "test-secret",
        ("1700000000", "GET", "/resources/applicants/-;externalUserId=u-1/one", ""),
        "a44a69af336ef04fc6d0dda5878659df73e7bea86a5ca61f9f1727a37d4fbf2c",
    ),
]


@pytest.mark.parametrize(("secret", "signed", "signature"), VECTORS, ids=range(len(VECTORS)))
def test_requests_are_signed_as_agreed(secret: str, signed: tuple[str, str, str, str], signature: str) -> None:
    at, method, target, body = signed
    assert request_signature(secret.encode(), at, method.lower(), target.encode(), body.encode()) == signature


@pytest.mark.parametrize(("secret", "signed", "signature"), VECTORS, ids=range(len(VECTORS)))
def test_what_is_signed_is_what_travels(secret: str, signed: tuple[str, str, str, str], signature: str) -> None:
    at, method, target, body = signed
    request = httpx.Request(method, f"https://vendor.example{target}", content=body.encode() or None)
    sent = next(SumsubAuth("sbx:a.b", secret, lambda: float(at) + 0.9).auth_flow(request))
    assert sent.headers["x-app-access-sig"] == signature
    assert (sent.headers["x-app-token"], sent.headers["x-app-access-ts"]) == ("sbx:a.b", at)
