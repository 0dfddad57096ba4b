"""The secrets of registrations: the same ones again, each of one registration, and of one version of a key."""

from pathlib import Path

import pytest

from domain.errors import DomainError
from domain.ids import new_registration_id
from integrations.keys.file_kms import FileKms
from integrations.keys.purposes import LOOKUP, REGISTRATION
from integrations.keys.registration_secrets import RegistrationSecrets

ONE, OTHER = new_registration_id("eu"), new_registration_id("eu")


@pytest.fixture
def kms(tmp_path: Path) -> FileKms:
    return FileKms(tmp_path / "keys", frozenset({REGISTRATION}))


async def test_another_process_makes_the_same_secret_also_once_the_key_has_changed(kms: FileKms) -> None:
    first = RegistrationSecrets(kms)
    key_id = await first.newest_key()
    secret = await first.of(ONE, key_id)
    await kms.rotate(REGISTRATION)
    second = RegistrationSecrets(kms)
    newer = await second.newest_key()
    assert newer != key_id
    assert await second.of(ONE, key_id) == secret
    assert await second.is_right(ONE, key_id, secret)
    assert not await second.is_right(ONE, newer, secret)
    assert len(secret) == len("rs_") + 43


async def test_a_secret_is_of_one_registration(kms: FileKms) -> None:
    secrets = RegistrationSecrets(kms)
    key_id = await secrets.newest_key()
    secret = await secrets.of(ONE, key_id)
    assert not await secrets.is_right(OTHER, key_id, secret)
    for wrong in ("", secret[:-1], secret + "=", secret.upper(), ONE, "\u00e9" * 46):
        assert not await secrets.is_right(ONE, key_id, wrong)


async def test_who_may_not_use_the_key_makes_none(kms: FileKms, tmp_path: Path) -> None:
    key_id = await RegistrationSecrets(kms).newest_key()
    other = RegistrationSecrets(FileKms(tmp_path / "keys", frozenset({LOOKUP})))
    for call in (other.newest_key(), other.of(ONE, key_id)):
        with pytest.raises(DomainError, match="key_unavailable"):
            await call
