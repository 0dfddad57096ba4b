"""Temporal's UI of one machine and the codec server of `api support` know each other, and nobody else."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from comitia.stack import temporal
from comitia.stack.applications import APPLICATIONS, SUPPORT, application_environment, codec_url_at
from comitia.stack.state import StackState
from integrations.settings import Environment, Settings

PORTS = {"temporal": 7233, "temporal-http": 7243, "temporal-metrics": 7253, "temporal-ui": 8233}


def command(tmp_path: Path, *, ui: bool, codec_url: str) -> tuple[str, ...]:
    return tuple(temporal.process(tmp_path, tmp_path / "log", PORTS, ("eu",), ui=ui, codec_url=codec_url).command)


def test_the_ui_asks_the_codec_server_where_there_are_both(tmp_path: Path) -> None:
    url = codec_url_at(8108)
    assert url == "http://127.0.0.1:8108/v1/support/codec"
    with_both = command(tmp_path, ui=True, codec_url=url)
    assert with_both[with_both.index("--ui-codec-endpoint") + 1] == url
    assert "--ui-codec-endpoint" not in command(tmp_path, ui=False, codec_url=url)
    assert "--ui-codec-endpoint" not in command(tmp_path, ui=True, codec_url=codec_url_at(None))


def test_the_codec_server_answers_that_ui_alone(tmp_path: Path) -> None:
    roles = {role for application in APPLICATIONS for role in application.roles}
    state = StackState(
        folder=tmp_path,
        stack_id="s",
        settings={"database_passwords": dict.fromkeys(roles, "x")},
        ports=PORTS,
    )
    for application in APPLICATIONS:
        given = application_environment(application, state, 1, environment=Environment.TEST, build="b")
        assert ("COMITIA_CODEC_ORIGINS" in given) is (application == SUPPORT)
    given = application_environment(SUPPORT, state, 1, environment=Environment.TEST, build="b")
    assert json.loads(given["COMITIA_CODEC_ORIGINS"]) == ["http://127.0.0.1:8233"]
    without_ui = state.model_copy(update={"ports": {"temporal": 7233}})
    assert "COMITIA_CODEC_ORIGINS" not in application_environment(
        SUPPORT, without_ui, 1, environment=Environment.TEST, build="b"
    )


def test_origins_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMITIA_CODEC_ORIGINS", '["http://127.0.0.1:8233", "https://temporal.example.org"]')
    assert Settings(environment=Environment.TEST).codec_origins == {
        "http://127.0.0.1:8233",
        "https://temporal.example.org",
    }


@pytest.mark.parametrize(
    "origin",
    ["*", "null", "", "temporal.example.org", "http://temporal.example.org", "https://x.org/", "https://x.org/a",
     "https://x.org?a", "https://*.example.org", "https://u@x.org", "https://x.org#a"],
)  # fmt: skip
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(ValidationError):
        Settings(environment=Environment.TEST, codec_origins=frozenset({origin}))
