from pathlib import Path

import pytest

from comitia.stack.state import StackState, merged, read_state
from integrations.postgres.roles import TALLY, VOTING
from integrations.settings import Environment, Settings


def test_the_file_is_for_its_owner_only(servers: StackState, tmp_path: Path) -> None:
    servers.model_copy(update={"folder": tmp_path}).write()
    assert (tmp_path / "stack.json").stat().st_mode & 0o777 == 0o600
    again = read_state(tmp_path)
    assert again is not None
    assert again.settings == servers.settings


def test_a_folder_without_a_stack_has_no_state(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None


def test_variables_read_back_as_the_same_settings(servers: StackState, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = servers.settings_for(VOTING, environment=Environment.TEST)
    for name, value in servers.settings_environment(VOTING, environment=Environment.TEST).items():
        monkeypatch.setenv(name, value)
    assert Settings() == expected


def test_a_process_gets_no_password_but_its_own(servers: StackState) -> None:
    variables = servers.settings_environment(TALLY)
    assert variables["COMITIA_DATABASE_PASSWORDS__COMITIA_TALLY"] == servers.password(TALLY)
    others = set(servers.settings["database_passwords"].values()) - {servers.password(TALLY)}
    assert len(others) >= 3
    assert not others & set(variables.values())


def test_merging_goes_level_by_level() -> None:
    assert merged({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 4}}) == {"a": {"b": 4, "c": 2}, "d": 3}
