"""Who gives a command, as audit entries name them."""

import pytest

from comitia.cell_access import operator
from domain.audit import actor_of


@pytest.mark.parametrize(
    ("account", "name"),
    [("ann", "comitia:ann"), ("ORG\\ann b", "comitia:ORG-ann-b"), ("x" * 200, "comitia:" + "x" * 56)],
)
def test_every_account_has_a_name_that_entries_can_have(
    monkeypatch: pytest.MonkeyPatch, account: str, name: str
) -> None:
    monkeypatch.setenv("LOGNAME", account)
    assert operator() == actor_of(operator()) == name
