"""Proofs of possession: the RFC's own examples, each wrong field, and replay."""

import json
from typing import Any

import pytest

from domain.errors import DomainError, ErrorCode
from integrations.keys import base64url
from integrations.keys.digests import digest
from integrations.keys.dpop import AGE_MAX_S, AHEAD_MAX_S, PROOF_BYTES_MAX, DpopVerifier, RequestProofs, normal_url
from integrations.keys.dpop_keys import ProofClaims, ProofKey, PublicJwk, make_proof, thumbprint
from integrations.keys.replays import ReplayCache

NOW = 1_790_000_000.5
URL = "https://votes.example.org/v1/surveys/s_aaaaaaaaaaaaaaaa/vote"
TOKEN = "header.payload.signature"
BODY = b'{"answers":[]}'

# RFC 9449, section 4.1 (figure 2) and section 7.1 (figure 12): one key, a token request and a resource request.
RFC_TOKEN_REQUEST = (
    b"eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0Rs"
    b"cEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2"
    b"In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2Vu"
    b"IiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg"
)
RFC_RESOURCE_REQUEST = (
    b"eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0Rs"
    b"cEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2"
    b"In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90"
    b"ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFF"
    b"byJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA"
)
RFC_TOKEN = b"Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
RFC_JKT = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"


@pytest.fixture(params=["EdDSA", "ES256"])
def key(request: pytest.FixtureRequest) -> ProofKey:
    return ProofKey.generate(algorithm=request.param)


def check(verifier: DpopVerifier, proof: str | bytes | None, **changes: Any) -> str:
    arguments: dict[str, Any] = {"method": "POST", "url": URL, "token": TOKEN.encode(), "body": BODY, "jkt": None}
    sent = proof.encode() if isinstance(proof, str) else proof
    return verifier.verify(sent, **{**arguments, "now": NOW, **changes}).jkt


def refused(verifier: DpopVerifier, proof: str | bytes | None, **changes: Any) -> str:
    with pytest.raises(DomainError) as raised:
        check(verifier, proof, **changes)
    assert raised.value.code is ErrorCode.PROOF_INVALID
    return raised.value.detail


def fresh(key: ProofKey, **changes: Any) -> str:
    claims: dict[str, Any] = {
        "jti": "a-jti-of-its-own",
        "htm": "POST",
        "htu": URL,
        "iat": int(NOW),
        "ath": digest(TOKEN.encode()),
        "bdh": digest(BODY),
    }
    return key.sign(ProofClaims(**{**claims, **changes}))


def test_good_proof_gives_its_keys_thumbprint(key: ProofKey) -> None:
    assert check(DpopVerifier(), fresh(key), jkt=key.jkt) == key.jkt
    assert check(DpopVerifier(), make_proof(key, "POST", URL, NOW, token=TOKEN, body=BODY)) == key.jkt


def test_private_jwk_is_the_same_key(key: ProofKey) -> None:
    again = ProofKey.from_private_jwk(json.loads(json.dumps(key.private_jwk)))
    assert (again.jkt, again.secret, again.algorithm) == (key.jkt, key.secret, key.algorithm)


def test_proofs_of_the_rfc_are_accepted() -> None:
    verifier = DpopVerifier()
    common = {"body": None, "jkt": RFC_JKT}
    assert (
        check(verifier, RFC_TOKEN_REQUEST, url="https://server.example.com/token", token=None, now=1562262616, **common)
        == RFC_JKT
    )
    resource = {"method": "GET", "url": "https://resource.example.org/protectedresource", "now": 1562262618}
    assert check(verifier, RFC_RESOURCE_REQUEST, token=RFC_TOKEN, **resource, **common) == RFC_JKT


def test_thumbprint_of_the_rfc() -> None:
    # RFC 8037, appendix A.3
    jwk = PublicJwk("OKP", "Ed25519", "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
    assert thumbprint(jwk) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"htm": "GET"}, "method"),
        ({"htm": "post"}, "method"),
        ({"htm": ""}, "method"),
        ({"htu": "https://votes.example.org/v1/surveys/s_bbbbbbbbbbbbbbbb/vote"}, "address"),
        ({"htu": "http://votes.example.org/v1/surveys/s_aaaaaaaaaaaaaaaa/vote"}, "address"),
        ({"htu": "https://other.example.org/v1/surveys/s_aaaaaaaaaaaaaaaa/vote"}, "address"),
        ({"htu": "https://votes.example.org:8443/v1/surveys/s_aaaaaaaaaaaaaaaa/vote"}, "address"),
        ({"htu": "https://votes.example.org@evil.example/v1/surveys/s_aaaaaaaaaaaaaaaa/vote"}, "address"),
        ({"htu": URL + "/"}, "address"),
        ({"htu": ""}, "address"),
        ({"htu": "https://[::1"}, "address"),
        ({"htu": "https://votes.example.org:99999999/x"}, "address"),
        ({"iat": int(NOW - AGE_MAX_S)}, "fresh"),
        ({"iat": int(NOW + AHEAD_MAX_S + 1)}, "fresh"),
        ({"iat": 0}, "fresh"),
        ({"ath": digest(b"another token")}, "token"),
        ({"ath": ""}, "token"),
        ({"bdh": digest(b"another body")}, "body"),
        ({"bdh": ""}, "body"),
        ({"jti": ""}, "jti"),
        ({"jti": "x" * 129}, "jti"),
    ],
)
def test_proof_for_something_else_is_refused(key: ProofKey, changes: dict[str, Any], detail: str) -> None:
    verifier = DpopVerifier()
    assert detail in refused(verifier, fresh(key, **changes))
    assert len(verifier._replays) == 0


def test_proof_of_another_key_is_refused(key: ProofKey) -> None:
    assert "another key" in refused(DpopVerifier(), fresh(key), jkt=ProofKey.generate().jkt)


@pytest.mark.parametrize("proof", [None, b"", b"..", b"x.y.z", b"\xff", b"a" * (PROOF_BYTES_MAX + 1)])
def test_what_is_no_proof_is_refused(proof: bytes | None) -> None:
    refused(DpopVerifier(), proof)


def header_of(proof: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64url.decode(proof.split(".", maxsplit=1)[0].encode()))
    return found


def with_header(key: ProofKey, header: dict[str, Any]) -> bytes:
    payload = fresh(key).split(".")[1].encode()
    signed = base64url.encode(json.dumps(header).encode()) + b"." + payload
    return signed + b"." + base64url.encode(key._signature(signed))


@pytest.mark.parametrize("members", [{"typ": "JWT"}, {"alg": "none"}, {"alg": "HS256"}, {"crit": ["exp"]}, {"typ": 1}])
def test_proof_with_another_header_is_refused(key: ProofKey, members: dict[str, Any]) -> None:
    header = header_of(fresh(key))
    assert check(DpopVerifier(), with_header(key, header)) == key.jkt
    refused(DpopVerifier(), with_header(key, {**header, **members}))


def test_algorithm_and_key_must_belong_together(key: ProofKey) -> None:
    header = header_of(fresh(key))
    other = "ES256" if key.algorithm == "EdDSA" else "EdDSA"
    refused(DpopVerifier(), with_header(key, {**header, "alg": other}))
    for jwk in (
        {**header["jwk"], "crv": "Ed448"},
        {**header["jwk"], "kty": "RSA"},
        {**header["jwk"], "x": header["jwk"]["x"][:-1]},
        {**header["jwk"], "x": header["jwk"]["x"] + "="},
        {**header["jwk"], "x": base64url.encode_text(bytes(32))},
        {**header["jwk"], "d": base64url.encode_text(key.secret)},
        {"kty": "oct", "k": "AAAA"},
    ):
        refused(DpopVerifier(), with_header(key, {**header, "jwk": jwk}))


def test_point_off_the_curve_is_refused() -> None:
    key = ProofKey.generate(algorithm="ES256")
    header = header_of(fresh(key))
    header["jwk"]["y"] = base64url.encode_text(bytes(31) + b"\x05")
    refused(DpopVerifier(), with_header(key, header))


def test_changed_proof_is_refused(key: ProofKey) -> None:
    header, _, signature = fresh(key).split(".")
    payload = fresh(key, jti="another").split(".")[1]
    assert "signature" in refused(DpopVerifier(), f"{header}.{payload}.{signature}")
    for zeroes in (bytes(64), bytes(63), b""):
        refused(DpopVerifier(), f"{header}.{payload}.{base64url.encode_text(zeroes)}")


def test_used_proof_is_refused_until_it_is_too_old_anyway(key: ProofKey) -> None:
    verifier, proof = DpopVerifier(), fresh(key)
    check(verifier, proof)
    assert "before" in refused(verifier, proof)
    assert "before" in refused(verifier, proof, now=NOW + AGE_MAX_S - 1)
    assert "fresh" in refused(verifier, proof, now=NOW + AGE_MAX_S + 1)


def test_jti_is_used_up_also_under_a_new_signature(key: ProofKey) -> None:
    verifier = DpopVerifier()
    check(verifier, fresh(key))
    assert "before" in refused(verifier, fresh(key))
    assert check(verifier, fresh(key, jti="another"))


def test_jti_of_one_key_is_no_concern_of_another(key: ProofKey) -> None:
    verifier = DpopVerifier()
    check(verifier, fresh(key))
    assert check(verifier, fresh(ProofKey.generate()))


@pytest.mark.parametrize(
    "htu",
    [
        "HTTPS://VOTES.example.org/v1/surveys/s_aaaaaaaaaaaaaaaa/vote",
        "https://votes.example.org:443/v1/surveys/s_aaaaaaaaaaaaaaaa/vote",
        URL + "?query=1",
        URL + "#fragment",
    ],
)
def test_spellings_of_the_same_address_are_equal(htu: str) -> None:
    assert normal_url(htu) == normal_url(URL)
    assert check(DpopVerifier(), fresh(ProofKey.generate(), htu=htu))


def test_request_proofs_stand_under_the_public_url(key: ProofKey) -> None:
    proofs = RequestProofs(DpopVerifier(), "https://votes.example.org/")
    path = URL.removeprefix("https://votes.example.org")
    asked: dict[str, Any] = {"method": "POST", "token": TOKEN.encode(), "body": BODY, "jkt": key.jkt, "now": NOW}
    proofs.verify(fresh(key).encode(), path=path, **asked)
    with pytest.raises(DomainError):
        proofs.verify(fresh(key, jti="another").encode(), path=path + "s", **asked)
    with pytest.raises(ValueError, match="URL"):
        RequestProofs(DpopVerifier(), "")


def test_replay_cache_forgets_what_is_too_old_anyway() -> None:
    cache = ReplayCache()
    assert cache.add(b"a", 100, 40)
    assert not cache.add(b"a", 100, 40)
    assert cache.add(b"b", 170, 110)
    assert len(cache) == 1
    assert not cache.add(b"a", 100, 40)


def test_full_replay_cache_refuses_the_oldest_instead_of_forgetting_them() -> None:
    cache = ReplayCache(capacity=10)
    taken = [(bytes([second, number]), second) for second in range(100, 110) for number in range(2)]
    accepted = [one for one in taken if cache.add(*one, 0)]
    assert len(accepted) == 20
    assert len(cache) <= 10
    assert not [one for one in accepted if cache.add(*one, 0)]
    assert cache.add(b"new", 109, 0)


def test_flood_within_one_second_is_bounded_and_opens_nothing() -> None:
    cache = ReplayCache(capacity=10)
    accepted = [number for number in range(100) if cache.add(bytes([number]), 100, 0)]
    assert len(cache) <= 10
    assert not [number for number in accepted if cache.add(bytes([number]), 100, 0)]
    assert cache.add(b"new", 101, 0)
