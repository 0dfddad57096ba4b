"""Keys of their own for every test."""

from pathlib import Path

import pytest

from integrations.keys.file_kms import FileKms
from integrations.keys.purposes import EVIDENCE, KEK_ELIGIBILITY, STAFF_TOKEN, VOTING_TOKEN


@pytest.fixture
def keys(tmp_path: Path) -> FileKms:
    return FileKms(tmp_path / "keys", frozenset({VOTING_TOKEN, STAFF_TOKEN, EVIDENCE, KEK_ELIGIBILITY, "in-flight"}))
