"""Which key service a process gets, by its settings."""

from pathlib import Path
from typing import Any

import pytest

from integrations.keys.aws_kms import AwsKms
from integrations.keys.file_kms import FileKms
from integrations.keys.opening import open_keys
from integrations.keys.purposes import VOTING_TOKEN
from integrations.settings import Environment, Settings

KMS = {"key_id": "arn:aws:kms:eu-central-1:111122223333:key/1", "region": "eu-central-1"}
BUCKET = {"bucket": "comitia-keys", "region": "eu-central-1"}


def settings(environment: Environment = Environment.PRODUCTION, /, **fields: Any) -> Settings:
    return Settings(environment=environment, **fields)


def test_production_takes_kms_and_refuses_a_folder(tmp_path: Path) -> None:
    assert isinstance(open_keys(settings(keys_kms=KMS, keys_bucket=BUCKET), VOTING_TOKEN), AwsKms)
    with pytest.raises(ValueError, match="keys kept in a folder"):
        settings(keys_folder=tmp_path)
    assert isinstance(open_keys(settings(Environment.TEST, keys_folder=tmp_path), VOTING_TOKEN), FileKms)


def test_they_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, fields in (("KMS", KMS), ("BUCKET", {**BUCKET, "access_key": "a", "secret_key": "s"})):
        for field, value in fields.items():
            monkeypatch.setenv(f"COMITIA_KEYS_{name}__{field.upper()}", value)
    found = Settings()
    assert isinstance(open_keys(found, VOTING_TOKEN), AwsKms)
    assert found.keys_kms is not None
    assert found.keys_kms.access_key is None  # as the role of the machine
    assert "'s'" not in repr(found.keys_bucket)


def test_keys_are_in_one_place_and_in_a_whole_one(tmp_path: Path) -> None:
    halves: list[dict[str, Any]] = [{"keys_kms": KMS}, {"keys_bucket": BUCKET}]
    for half in halves:
        with pytest.raises(ValueError, match="belong together"):
            settings(**half)
    with pytest.raises(ValueError, match="not in both"):
        settings(Environment.TEST, keys_kms=KMS, keys_bucket=BUCKET, keys_folder=tmp_path)
    with pytest.raises(LookupError, match="neither COMITIA_KEYS_KMS nor COMITIA_KEYS_FOLDER"):
        open_keys(settings(Environment.TEST), VOTING_TOKEN)


@pytest.mark.parametrize("name", ["keys_kms", "keys_bucket"])
@pytest.mark.parametrize("wrong", [{"endpoint_url": "http://kms.example"}, {"access_key": "a"}, {"secret_key": "s"}])
def test_neither_is_reached_in_the_clear_or_with_half_an_access(name: str, wrong: dict[str, str]) -> None:
    whole: dict[str, Any] = {"keys_kms": KMS, "keys_bucket": BUCKET}
    with pytest.raises(ValueError, match=r"an https address|or neither"):
        settings(**{**whole, name: {**whole[name], **wrong}})
