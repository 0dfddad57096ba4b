"""Keyed hashes of addresses and documents, under every version that lives."""

import hashlib
import hmac
from pathlib import Path

import pytest

from domain.accounts import LookupKind
from domain.errors import DomainError, ErrorCode
from domain.framing import framed
from domain.proofing import Document
from integrations.keys import lookups
from integrations.keys.file_kms import FileKms
from integrations.keys.lookups import KeyedLookupHashes
from integrations.keys.purposes import DOCUMENT, LOOKUP

PASSPORT = Document("DEU", "passport", "C01X00T47")


class Clock:
    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def vault(tmp_path: Path) -> FileKms:
    return FileKms(tmp_path / "keys", frozenset({LOOKUP, DOCUMENT}))


async def test_a_hash_names_its_key_and_is_the_hmac_of_the_canonical_value(vault: FileKms) -> None:
    key = await vault.current(LOOKUP)
    found = await KeyedLookupHashes(vault).newest(LookupKind.MAIL, " Anna@Example.org")
    message = framed(b"comitia/lookup/1", b"mail", b"anna@example.org")
    assert (found.key_id, found.digest) == (key.key_id, hmac.digest(key.secret, message, hashlib.sha256))


async def test_every_live_version_is_hashed_oldest_first_and_a_new_one_is_known_within_a_minute(vault: FileKms) -> None:
    clock = Clock()
    hashes = KeyedLookupHashes(vault, now=clock)
    first = await hashes.every(LookupKind.PHONE, "+49 30 1234567")
    newer = await vault.rotate(LOOKUP)
    assert await hashes.every(LookupKind.PHONE, "+49301234567") == first
    clock.at += lookups.FRESH_S
    both = await hashes.every(LookupKind.PHONE, "+49301234567")
    assert both[:1] == first
    assert both[1].key_id == newer.key_id
    assert await hashes.newest(LookupKind.PHONE, "+49301234567") == both[1]


async def test_kinds_and_purposes_are_hashed_apart(vault: FileKms) -> None:
    hashes = KeyedLookupHashes(vault)
    text = "anna@example.org"
    kinds = (LookupKind.MAIL, LookupKind.LOGIN, LookupKind.DEVICE, LookupKind.CODE)
    digests = {(await hashes.newest(kind, text)).digest for kind in kinds}
    assert len(digests) == len(kinds)
    (document,) = await hashes.document(PASSPORT)
    assert document.key_id.startswith(DOCUMENT + "/")


async def test_a_document_is_hashed_as_read_by_anybody(vault: FileKms) -> None:
    await vault.rotate(DOCUMENT)
    await vault.rotate(DOCUMENT)
    hashes = KeyedLookupHashes(vault)
    found = await hashes.document(PASSPORT)
    assert len(found) == 2
    assert found == await hashes.document(Document("deu", "Passport", "c01x00-t47"))
    assert found != await hashes.document(Document("DEU", "passport", "C01X00T48"))


async def test_what_is_no_value_of_its_kind_is_refused(vault: FileKms) -> None:
    hashes = KeyedLookupHashes(vault)
    for kind, value in ((LookupKind.MAIL, "anna"), (LookupKind.PHONE, "030"), (LookupKind.DOCUMENT, "C01X00T47")):
        with pytest.raises(DomainError) as refused:
            await hashes.every(kind, value)
        assert refused.value.code is ErrorCode.MALFORMED_REQUEST
        assert value not in str(refused.value)


async def test_a_process_without_the_key_hashes_nothing(tmp_path: Path) -> None:
    hashes = KeyedLookupHashes(FileKms(tmp_path, frozenset({LOOKUP})))
    await hashes.newest(LookupKind.MAIL, "anna@example.org")
    with pytest.raises(DomainError) as refused:
        await hashes.document(PASSPORT)
    assert refused.value.code is ErrorCode.KEY_UNAVAILABLE
