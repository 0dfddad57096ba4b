"""What the processes of a stack are told of their vendors."""

import os
from pathlib import Path

import pytest

from comitia.stack.sandboxes import Sandboxes
from comitia.stack.state import StackState
from integrations.settings import Environment, Settings

VENDORS = ("sumsub", "letters", "fingerprint", "turnstile", "breaches", "mail", "passkeys", "staff_provider")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StackState:
    for name in os.environ:
        if name.startswith("COMITIA_"):
            monkeypatch.delenv(name)
    return StackState(folder=tmp_path, stack_id="tests", settings={}, ports={})


def settings_of(sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in sandboxes.variables.items():
        monkeypatch.setenv(name, value)
    return Settings(environment=Environment.DEVELOPMENT)


def test_every_vendor_has_its_sandbox(state: StackState, monkeypatch: pytest.MonkeyPatch) -> None:
    sandboxes = Sandboxes(state)
    settings = settings_of(sandboxes, monkeypatch)
    assert [name for name in VENDORS if getattr(settings, name) is None] == []
    assert settings.sumsub is not None
    assert settings.sumsub.base_url == f"{sandboxes.url}/sumsub"
    assert set(settings.identity_providers) == {"sandbox"}
    assert settings.recovery_page


def test_a_vendor_that_the_environment_names_is_left_to_it(state: StackState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMITIA_BREACHES__BASE_URL", "https://breaches.example.org")
    sandboxes = Sandboxes(state)
    assert not [name for name in sandboxes.variables if name.startswith("COMITIA_BREACHES")]
    settings = settings_of(sandboxes, monkeypatch)
    assert settings.breaches is not None
    assert settings.breaches.base_url == "https://breaches.example.org"
    assert settings.letters is not None


def test_secrets_outlive_a_start_and_are_of_one_stack(state: StackState, tmp_path: Path) -> None:
    first, again = Sandboxes(state).variables, Sandboxes(state).variables
    (tmp_path / "other").mkdir()
    other = Sandboxes(state.model_copy(update={"folder": tmp_path / "other"})).variables
    assert first["COMITIA_SUMSUB__SECRET_KEY"] == again["COMITIA_SUMSUB__SECRET_KEY"]
    assert first["COMITIA_SUMSUB__SECRET_KEY"] != other["COMITIA_SUMSUB__SECRET_KEY"]
    assert len({value for name, value in first.items() if name.endswith(("SECRET", "SECRET_KEY", "API_KEY"))}) >= 6
