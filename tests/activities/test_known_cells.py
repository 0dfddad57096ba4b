"""Cells by name."""

import pytest

from activities.known_cells import known
from domain.errors import DomainError, ErrorCode


def test_a_cell_that_this_worker_does_not_know_is_asked_for_again_elsewhere() -> None:
    assert known({"eu": 1}, "eu") == 1
    for otherwise in (ErrorCode.LEDGER_UNAVAILABLE, ErrorCode.DIRECTORY_UNAVAILABLE, ErrorCode.WORKFLOWS_UNAVAILABLE):
        with pytest.raises(DomainError) as raised:
            known({"eu": 1}, "us", otherwise)
        assert raised.value.code is otherwise
        assert raised.value.spec.retryable
