"""Evidence of admission is good under whichever key signed it, for this person, survey, cell and region alone."""

import pytest
from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from domain.eligibility import evidence_message
from domain.errors import DomainError, ErrorCode
from integrations.keys.evidence import EvidenceVerifier

SURVEY, NULLIFIER = "s_aaaaaaaaaaaaaaaa", b"\x11" * 32
SEEDS = [bytes([number]) * 32 for number in range(3)]


class Published:
    """The part of a key management that has public keys."""

    def __init__(self, *seeds: bytes) -> None:
        self._keys = {f"evidence/2026-11-2{n}/1": crypto_sign_seed_keypair(seed)[0] for n, seed in enumerate(seeds)}

    async def public_keys(self, purpose: str) -> dict[str, bytes]:
        assert purpose == "evidence"
        return self._keys


def signed(seed: bytes, *, nullifier: bytes = NULLIFIER, cell: str = "eu", region: str = "DE") -> bytes:
    message = evidence_message(SURVEY, nullifier, cell, region)
    return crypto_sign(message, crypto_sign_seed_keypair(seed)[1])[:64]


async def test_evidence_is_good_under_every_published_key_and_for_what_it_says_alone() -> None:
    is_evidence = await EvidenceVerifier(Published(*SEEDS)).check_for("eu")
    for seed in (*SEEDS, *reversed(SEEDS)):
        assert is_evidence(SURVEY, NULLIFIER, "DE", signed(seed))
    for wrong in (
        signed(SEEDS[0], region="FR"),
        signed(SEEDS[0], cell="us"),
        signed(SEEDS[0], nullifier=bytes(32)),
        signed(b"\x09" * 32),
        bytes(64),
    ):
        assert not is_evidence(SURVEY, NULLIFIER, "DE", wrong)


async def test_without_a_published_key_nobody_can_tell() -> None:
    with pytest.raises(DomainError) as raised:
        await EvidenceVerifier(Published()).check_for("eu")
    assert raised.value.code is ErrorCode.KEY_UNAVAILABLE
