"""Every way in which a token can be wrong."""

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from domain.errors import DomainError, ErrorCode
from domain.tokens import (
    LEEWAY_S,
    LIFETIME_S,
    STAFF_ACCESS,
    TOKEN_BYTES_MAX,
    VOTER_ACCESS,
    VOTING,
    Claims,
    Confirmation,
    Role,
    StaffClaims,
    TokenKind,
    VoterClaims,
    VotingWire,
)
from integrations.keys import base64url
from integrations.keys.access_tokens import AccessTokens
from integrations.keys.file_kms import FileKms
from integrations.keys.purposes import ACCESS_TOKEN, EVIDENCE, STAFF_TOKEN, VOTING_TOKEN
from integrations.keys.signing import Ed25519Signer, VerificationKeys, is_signed
from integrations.keys.tokens import TokenIssuer, TokenVerifier, VotingTokenVerifier

NOW = 1_790_000_000
SURVEY = "s_aaaaaaaaaaaaaaaa"
NULLIFIER, SIGNATURE = b"\x11" * 32, b"\x22" * 64


def wire(**changes: Any) -> VotingWire:
    claims: dict[str, Any] = {
        "iss": VOTING.issuer,
        "aud": VOTING.audience,
        "scope": VOTING.scope,
        "iat": NOW,
        "exp": NOW + LIFETIME_S,
        "survey": SURVEY,
        "nullifier": base64url.encode_text(NULLIFIER),
        "cell": "eu",
        "region": "DE",
        "evidence": base64url.encode_text(SIGNATURE),
    }
    return VotingWire(**{**claims, **changes})


class Issuer:
    """Signs anything with the real key, also what no issuer of ours would."""

    def __init__(self, key_id: str, secret: bytes) -> None:
        self.key_id = key_id
        self.secret = secret
        self.public_key, self._signing_key = crypto_sign_seed_keypair(secret)

    def token(self, claims: Claims | bytes, **header: Any) -> bytes:
        members = {"alg": "EdDSA", "kid": self.key_id, "typ": VOTING.typ, **header}
        payload = claims if isinstance(claims, bytes) else msgspec.json.encode(claims)
        kept = {name: value for name, value in members.items() if value is not None}
        return self.sign(base64url.encode(json.dumps(kept).encode()) + b"." + base64url.encode(payload))

    def sign(self, signed: bytes) -> bytes:
        return signed + b"." + base64url.encode(crypto_sign(signed, self._signing_key)[:64])


@pytest.fixture
async def issuer(keys: FileKms) -> Issuer:
    key = await keys.current(VOTING_TOKEN)
    return Issuer(key.key_id, key.secret)


@pytest.fixture
async def verifier(keys: FileKms, issuer: Issuer) -> VotingTokenVerifier:
    held = VerificationKeys(keys, VOTING_TOKEN)
    await held.refresh()
    assert issuer.key_id in held.by_id
    return VotingTokenVerifier(held)


def refusal(verifier: VotingTokenVerifier, token: bytes, now: float = NOW) -> ErrorCode:
    with pytest.raises(DomainError) as raised:
        verifier.verify(token, now)
    assert token.decode("latin-1")[:40] not in str(raised.value) or not token
    return raised.value.code


def test_good_token_says_what_it_was_issued_for(issuer: Issuer, verifier: VotingTokenVerifier) -> None:
    claims = verifier.verify(issuer.token(wire(cnf=Confirmation("thumb"), device="d")), NOW)
    assert (claims.survey_id, claims.nullifier, claims.evidence) == (SURVEY, NULLIFIER, SIGNATURE)
    assert (claims.cell, claims.region, claims.device, claims.jkt) == ("eu", "DE", "d", "thumb")
    assert (claims.issued_at, claims.expires_at) == (NOW, NOW + LIFETIME_S)


def test_the_second_token_under_a_remembered_header_is_checked_like_the_first(
    issuer: Issuer, verifier: VotingTokenVerifier
) -> None:
    token = issuer.token(wire())
    for _ in range(2):
        assert verifier.verify(token, NOW).jkt is None
    head, _, signature = token.split(b".")
    forged = base64url.encode(msgspec.json.encode(wire(survey="s_bbbbbbbbbbbbbbbb")))
    assert refusal(verifier, head + b"." + forged + b"." + signature) is ErrorCode.TOKEN_INVALID


def test_other_libraries_agree(issuer: Issuer, verifier: VotingTokenVerifier) -> None:
    token = issuer.token(wire())
    public_key = Ed25519PublicKey.from_public_bytes(issuer.public_key)
    found = jwt.decode(
        token,
        public_key,
        algorithms=["EdDSA"],
        audience="votes",
        issuer=VOTING.issuer,
        options={"verify_exp": False, "verify_iat": False},
    )
    assert found["survey"] == SURVEY
    theirs = jwt.encode(found, _private(issuer), algorithm="EdDSA", headers={"kid": issuer.key_id, "typ": VOTING.typ})
    assert verifier.verify(theirs.encode(), NOW).nullifier == NULLIFIER


def _private(issuer: Issuer) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(issuer.secret)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"exp": NOW - LEEWAY_S, "iat": NOW - LEEWAY_S - 900}, ErrorCode.TOKEN_EXPIRED),
        ({"iat": NOW + LEEWAY_S + 1, "exp": NOW + LEEWAY_S + 901}, ErrorCode.TOKEN_INVALID),
        ({"nbf": NOW + LEEWAY_S + 1}, ErrorCode.TOKEN_INVALID),
        ({"exp": NOW + LIFETIME_S + 1}, ErrorCode.TOKEN_INVALID),
        ({"iss": "comitia/auth"}, ErrorCode.TOKEN_INVALID),
        ({"iss": ""}, ErrorCode.TOKEN_INVALID),
        ({"aud": "voters"}, ErrorCode.TOKEN_INVALID),
        ({"scope": "voter"}, ErrorCode.TOKEN_INVALID),
        ({"scope": "vote admin"}, ErrorCode.TOKEN_INVALID),
        ({"nullifier": base64url.encode_text(b"1" * 31)}, ErrorCode.TOKEN_INVALID),
        ({"nullifier": ""}, ErrorCode.TOKEN_INVALID),
        ({"nullifier": "\u00e4" * 43}, ErrorCode.TOKEN_INVALID),
        ({"nullifier": base64.b64encode(NULLIFIER).decode()}, ErrorCode.TOKEN_INVALID),
        ({"evidence": base64url.encode_text(b"1" * 63)}, ErrorCode.TOKEN_INVALID),
    ],
)
def test_token_that_says_something_else_is_refused(
    issuer: Issuer, verifier: VotingTokenVerifier, changes: dict[str, Any], code: ErrorCode
) -> None:
    assert refusal(verifier, issuer.token(wire(**changes))) is code


def test_clocks_may_differ_by_the_leeway_and_no_more(issuer: Issuer, verifier: VotingTokenVerifier) -> None:
    token = issuer.token(wire())
    assert verifier.verify(token, NOW - LEEWAY_S)
    assert verifier.verify(token, NOW + LIFETIME_S + LEEWAY_S - 0.001)
    assert refusal(verifier, token, NOW - LEEWAY_S - 1) is ErrorCode.TOKEN_INVALID
    assert refusal(verifier, token, NOW + LIFETIME_S + LEEWAY_S) is ErrorCode.TOKEN_EXPIRED


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "HS256"},
        {"alg": "ES256"},
        {"alg": "Ed25519"},
        {"alg": "eddsa"},
        {"alg": None},
        {"alg": ["EdDSA"]},
        {"typ": "JWT"},
        {"typ": "at+jwt"},
        {"typ": None},
        {"kid": None},
        {"kid": "voting-token/2026-11-23/999"},
        {"kid": "../../etc/passwd"},
        {"kid": 1},
        {"crit": ["exp"]},
        {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}},
        {"jku": "https://attacker.example/keys"},
        {"b64": False},
    ],
)
def test_token_with_another_header_is_refused(
    issuer: Issuer, verifier: VotingTokenVerifier, header: dict[str, Any]
) -> None:
    assert refusal(verifier, issuer.token(wire(), **header)) is ErrorCode.TOKEN_INVALID


def test_public_key_is_no_hmac_secret(issuer: Issuer, verifier: VotingTokenVerifier) -> None:
    for algorithm in ("HS256", "EdDSA"):
        header = json.dumps({"alg": algorithm, "kid": issuer.key_id, "typ": VOTING.typ}).encode()
        signed = base64url.encode(header) + b"." + base64url.encode(msgspec.json.encode(wire()))
        mac = hmac.digest(issuer.public_key, signed, hashlib.sha256)
        for signature in (mac, mac + bytes(32), bytes(64), b""):
            assert refusal(verifier, signed + b"." + base64url.encode(signature)) is ErrorCode.TOKEN_INVALID


def test_signature_of_another_key_is_refused(issuer: Issuer, verifier: VotingTokenVerifier) -> None:
    assert refusal(verifier, Issuer(issuer.key_id, bytes(32)).token(wire())) is ErrorCode.TOKEN_INVALID


async def test_key_of_another_purpose_is_not_known_here(keys: FileKms, verifier: VotingTokenVerifier) -> None:
    evidence = await keys.current(EVIDENCE)
    assert refusal(verifier, Issuer(evidence.key_id, evidence.secret).token(wire())) is ErrorCode.TOKEN_INVALID


def test_one_token_has_one_spelling(issuer: Issuer, verifier: VotingTokenVerifier) -> None:
    token = issuer.token(wire())
    verifier.verify(token, NOW)
    head, payload, signature = token.split(b".")
    last = signature[-1:]
    spellings = [signature[:-1] + other for other in (b"A", b"B", b"Q", b"R", b"g", b"w", b"x", b"=") if other != last]
    others = [
        *(head + b"." + payload + b"." + spelling for spelling in spellings),
        token + b"=",
        token + b".",
        token + b"." + signature,
        token + b"\n",
        b" " + token,
        b"." + token,
        head + b"." + payload,
        head + b"." + payload + b".",
        head + b"=." + payload + b"." + signature,
        head + b"." + payload + b"==." + signature,
        head + b".." + payload + b"." + signature,
        token.replace(b"-", b"+").replace(b"_", b"/") + b"A",
        head + b"." + payload + b"." + signature + b"AAAA",
    ]
    for other in others:
        assert refusal(verifier, other) is ErrorCode.TOKEN_INVALID, other


@pytest.mark.parametrize("token", [b"", b".", b"..", b"...", b"\x00", b"a.b.c", "ä.ö.ü".encode(), b"x" * 5000])
def test_what_is_no_token_is_refused(verifier: VotingTokenVerifier, token: bytes) -> None:
    assert refusal(verifier, token) is ErrorCode.TOKEN_INVALID


def test_huge_token_is_refused_before_it_is_read(issuer: Issuer, verifier: VotingTokenVerifier) -> None:
    token = issuer.token(wire(region="D" * TOKEN_BYTES_MAX))
    assert len(token) > TOKEN_BYTES_MAX
    with pytest.raises(DomainError, match="too long"):
        verifier.verify(token, NOW)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"{",
        b'{"iss":1}',
        json.dumps({**msgspec.to_builtins(wire()), "exp": "1790000900"}).encode(),
        json.dumps({**msgspec.to_builtins(wire()), "exp": 1e300}).encode(),
        json.dumps({**msgspec.to_builtins(wire()), "aud": ["votes", "voters"]}).encode(),
        json.dumps({**msgspec.to_builtins(wire()), "cnf": "x"}).encode(),
        msgspec.json.encode(wire()) + b"{}",
        msgspec.json.encode(wire()) + b"\xff",
        b"\xff" + msgspec.json.encode(wire()),
    ],
)
def test_signed_nonsense_is_refused(issuer: Issuer, verifier: VotingTokenVerifier, payload: bytes) -> None:
    assert refusal(verifier, issuer.token(payload)) is ErrorCode.TOKEN_INVALID


def test_malleable_signature_is_refused(issuer: Issuer, verifier: VotingTokenVerifier) -> None:
    token = issuer.token(wire())
    signed, _, text = token.rpartition(b".")
    signature = base64url.decode(text)
    order = 2**252 + 27742317777372353535851937790883648493
    scalar = int.from_bytes(signature[32:], "little") + order
    malleable = signature[:32] + scalar.to_bytes(32, "little")
    assert refusal(verifier, signed + b"." + base64url.encode(malleable)) is ErrorCode.TOKEN_INVALID
    assert is_signed(signed, signature, issuer.public_key)
    assert not is_signed(signed, malleable, issuer.public_key)
    assert not is_signed(signed, signature[:-1], issuer.public_key)


async def test_three_kinds_of_token_open_nothing_of_each_other(tmp_path: Path) -> None:
    keys = FileKms(tmp_path, frozenset({ACCESS_TOKEN, STAFF_TOKEN, VOTING_TOKEN}))
    access = AccessTokens(keys, now=lambda: NOW)
    await access.refresh()
    signer = Ed25519Signer(keys, VOTING_TOKEN)
    await signer.refresh()
    tokens = {
        "voter": access.voter("v_eu_" + "a" * 26, "eu", "DE"),
        "staff": access.staff("u_1", [Role.ADMIN]),
        "voting": TokenIssuer(signer, VOTING).sign(wire()),
    }
    held = {purpose: VerificationKeys(keys, purpose) for purpose in (ACCESS_TOKEN, STAFF_TOKEN, VOTING_TOKEN)}
    for one in held.values():
        await one.refresh()
    verifiers: dict[str, Any] = {
        "voter": TokenVerifier(VoterClaims, VOTER_ACCESS, held[ACCESS_TOKEN]),
        "staff": TokenVerifier(StaffClaims, STAFF_ACCESS, held[STAFF_TOKEN]),
        "voting": VotingTokenVerifier(held[VOTING_TOKEN]),
    }
    for kind, token in tokens.items():
        for door, verifier in verifiers.items():
            if kind == door:
                assert verifier.verify(token.encode(), NOW)
            else:
                assert refusal(verifier, token.encode()) is ErrorCode.TOKEN_INVALID


@pytest.mark.parametrize("changed", ["typ", "issuer", "audience", "scope"])
async def test_even_under_one_key_kinds_are_told_apart(keys: FileKms, issuer: Issuer, changed: str) -> None:
    held = VerificationKeys(keys, VOTING_TOKEN)
    await held.refresh()
    kind = TokenKind(**{**msgspec.structs.asdict(VOTING), changed: "other"})
    with pytest.raises(DomainError) as raised:
        TokenVerifier(VotingWire, kind, held).verify(issuer.token(wire()), NOW)
    assert raised.value.code is ErrorCode.TOKEN_INVALID


async def test_new_key_is_taken_up_by_verifiers_before_signers(keys: FileKms) -> None:
    signer, held = Ed25519Signer(keys, VOTING_TOKEN), VerificationKeys(keys, VOTING_TOKEN)
    await signer.refresh()
    await held.refresh()
    verifier, first = VotingTokenVerifier(held), signer.key_id
    await keys.rotate(VOTING_TOKEN)
    await signer.refresh()
    assert signer.key_id == first
    await signer.refresh()
    assert signer.key_id != first
    token = TokenIssuer(signer, VOTING).sign(wire()).encode()
    assert refusal(verifier, token) is ErrorCode.TOKEN_INVALID
    assert held.is_missing
    await held.refresh()
    assert not held.is_missing
    assert verifier.verify(token, NOW)


async def test_tokens_of_a_destroyed_key_are_refused_from_the_next_refresh_on(keys: FileKms, issuer: Issuer) -> None:
    held = VerificationKeys(keys, VOTING_TOKEN)
    await held.refresh()
    verifier, token = VotingTokenVerifier(held), issuer.token(wire())
    assert verifier.verify(token, NOW)
    await keys.destroy(issuer.key_id)
    await held.refresh()
    assert refusal(verifier, token) is ErrorCode.TOKEN_INVALID


async def test_key_service_that_is_away_takes_no_keys_from_those_who_have_them(keys: FileKms, issuer: Issuer) -> None:
    class Away(FileKms):
        async def public_keys(self, purpose: str) -> dict[str, bytes]:
            raise DomainError(ErrorCode.KEY_UNAVAILABLE, purpose)

    held = VerificationKeys(keys, VOTING_TOKEN)
    await held.refresh()
    held._kms = Away(keys.folder, frozenset())
    await held.refresh()
    assert VotingTokenVerifier(held).verify(issuer.token(wire()), NOW)


def test_voting_token_names_nobody(issuer: Issuer) -> None:
    payload = json.loads(base64url.decode(issuer.token(wire(device="d", cnf=Confirmation("k"))).split(b".")[1]))
    assert set(payload) == {
        "iss", "aud", "scope", "iat", "exp", "survey", "nullifier", "cell", "region", "evidence", "device", "cnf"
    }  # fmt: skip
