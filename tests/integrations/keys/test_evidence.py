"""Evidence of admission is good under whichever key signed it, for this person, survey, cell and region alone."""

from pathlib import Path

import pytest
from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from domain.eligibility import evidence_message
from domain.errors import DomainError, ErrorCode
from integrations.keys.evidence import EvidenceVerifier
from integrations.keys.file_kms import FileKms
from integrations.keys.purposes import EVIDENCE

SURVEY, NULLIFIER = "s_aaaaaaaaaaaaaaaa", b"\x11" * 32


@pytest.fixture
def keys(tmp_path: Path) -> FileKms:
    return FileKms(tmp_path, frozenset({EVIDENCE}))


def signed(seed: bytes, *, nullifier: bytes = NULLIFIER, cell: str = "eu", region: str = "DE") -> bytes:
    message = evidence_message(SURVEY, nullifier, cell, region)
    return crypto_sign(message, crypto_sign_seed_keypair(seed)[1])[:64]


async def test_evidence_is_good_under_every_published_key_and_for_what_it_says_alone(keys: FileKms) -> None:
    seeds = [(await keys.rotate(EVIDENCE)).secret for _ in range(3)]
    is_evidence = await EvidenceVerifier(keys).check_for("eu")
    for seed in (*seeds, *reversed(seeds)):
        assert is_evidence(SURVEY, NULLIFIER, "DE", signed(seed))
    for wrong in (
        signed(seeds[0], region="FR"),
        signed(seeds[0], cell="us"),
        signed(seeds[0], nullifier=bytes(32)),
        signed(b"\x09" * 32),
        bytes(64),
    ):
        assert not is_evidence(SURVEY, NULLIFIER, "DE", wrong)


async def test_without_a_published_key_nobody_can_tell(keys: FileKms) -> None:
    with pytest.raises(DomainError) as raised:
        await EvidenceVerifier(keys).check_for("eu")
    assert raised.value.code is ErrorCode.KEY_UNAVAILABLE
