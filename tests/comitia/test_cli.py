import fcntl
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from comitia import doctor
from comitia.cli import app
from comitia.stack import kafka
from comitia.stack.state import StackState
from integrations.postgres.migrate import Tree, heads


@pytest.fixture
def run() -> CliRunner:
    return CliRunner()


def test_every_command_is_shown_and_comes_when_it_is_asked_for(run: CliRunner) -> None:
    shown = run.invoke(app, ["--help"])
    assert shown.exit_code == 0, shown.output
    for name in ("up", "demo", "token", "tally", "reconcile", "replay", "verify", "evidence", "sign-in"):
        assert f" {name} " in shown.output
        told = run.invoke(app, [name, "--help"])
        assert told.exit_code == 0, told.output
        assert f"{name} " in told.output.partition("Usage:")[2].partition("\n")[0]
    assert run.invoke(app, ["nothing"]).exit_code == 2


def test_a_command_does_not_wait_for_the_imports_of_others() -> None:
    code = "import sys, comitia.cli; print({'temporalio', 'fastapi', 'asyncpg', 'redis'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "set()\n"


def test_doctor_passes_where_the_tests_run(run: CliRunner, tmp_path: Path) -> None:
    result = run.invoke(app, ["doctor", "--data", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "PostgreSQL" in result.output
    assert "missing" not in result.output


def test_doctor_says_how_to_get_java(run: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    result = run.invoke(app, ["doctor", "--data", str(tmp_path)])
    assert result.exit_code == 1
    assert "Java: install Java 17 or newer, on Debian: apt-get install openjdk-17-jre-headless" in result.output


def test_doctor_refuses_an_old_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "bin" / "java"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    old.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert {check.name for check in doctor.examine(tmp_path) if check.needed and not check.passed} == {"Java"}


def test_doctor_asks_for_maven_only_while_jars_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMITIA_TOOLS_FOLDER", str(tmp_path))
    monkeypatch.setenv("PATH", "/nonexistent")
    needed = {check.name for check in doctor.examine(tmp_path) if check.needed and not check.passed}
    assert {"Maven", "Kafka's jars"} <= needed


def test_doctor_says_what_was_not_built_and_can_do_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMITIA_TOOLS_FOLDER", str(tmp_path))
    found = next(check for check in doctor.examine(tmp_path) if check.name == "Tools built from Go")
    assert not found.passed
    assert not found.needed
    assert (
        "not built: temporal-server, temporal-sql-tool, toxiproxy-server, versitygw, local-kms, tlog-fsck, tlog-proofs"
        in found.found
    )
    assert "make tools" in found.advice


def test_two_brokers_are_refused_before_anything_starts(run: CliRunner, tmp_path: Path) -> None:
    result = run.invoke(app, ["up", "--kafka-brokers", "2", "--data", str(tmp_path / "stack")])
    assert result.exit_code == 2
    assert "2 is none of 1, 3" in result.output
    assert not (tmp_path / "stack").exists()


def test_doctor_looks_at_no_port_of_a_stack_that_runs(servers: StackState) -> None:
    found = next(check for check in doctor.examine(servers.folder) if check.name == "Ports")
    assert "a stack runs in" in found.found


def test_jars_are_of_the_present_pom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kafka.jars_complete()
    monkeypatch.setenv("COMITIA_TOOLS_FOLDER", str(tmp_path))
    assert not kafka.jars_complete()
    kafka.jars_folder().mkdir(parents=True)
    (kafka.jars_folder() / ".complete").write_text("another pom.xml")
    assert not kafka.jars_complete()


def test_migrate_reaches_every_database_of_a_running_stack(run: CliRunner, servers: StackState) -> None:
    result = run.invoke(app, ["migrate", "--data", str(servers.folder)])
    assert result.exit_code == 0, result.output
    (cell,), (catalogue,) = heads(Tree.CELL), heads(Tree.CATALOGUE)
    assert result.output.splitlines() == [f"eu: {cell}", f"us: {cell}", f"catalogue: {catalogue}"]


def test_migrate_takes_addresses_from_the_environment(
    run: CliRunner, servers: StackState, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in servers.settings_environment("comitia_owner").items():
        monkeypatch.setenv(name, value)
    result = run.invoke(app, ["migrate", "--data", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert len(result.output.splitlines()) == 3


def test_migrate_without_any_database_says_so(run: CliRunner, tmp_path: Path) -> None:
    result = run.invoke(app, ["migrate", "--data", str(tmp_path)])
    assert result.exit_code == 1
    assert "no stack runs in" in result.output
    assert "start one with `comitia up`" in result.output


@pytest.mark.parametrize("port", ["api-votes=x", "nobody=1", "api-votes"])
def test_a_port_must_be_a_known_name_and_a_number(run: CliRunner, tmp_path: Path, port: str) -> None:
    result = run.invoke(app, ["up", "--data", str(tmp_path), "--port", port])
    assert result.exit_code == 2


@pytest.mark.parametrize("command", [["up"], ["demo"], ["demo", "identity"]])
def test_what_keeps_a_stack_from_starting_is_said_with_what_to_do(
    run: CliRunner, tmp_path: Path, command: list[str]
) -> None:
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = run.invoke(app, [*command, "--free-ports", "--data", str(tmp_path)])
        assert result.exit_code == 1
        assert "not started: a stack runs in" in result.output
        assert "Ctrl-C where it runs" in result.output
    (tmp_path / "file").touch()
    result = run.invoke(app, [*command, "--free-ports", "--data", str(tmp_path / "file")])
    assert result.exit_code == 1
    assert "`comitia doctor` says what is missing" in result.output


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_a_stack_without_standbys_has_no_archive(run: CliRunner, tmp_path: Path, command: str) -> None:
    result = run.invoke(app, [command, "eu", "--data", str(tmp_path)])
    assert result.exit_code == 1
    assert "comitia up --standby makes them" in result.output


@pytest.mark.parametrize("moment", ["yesterday", "2026-05-07T22:00:00", "0/x"])
def test_a_moment_to_restore_is_an_instant_or_a_place_in_the_log(run: CliRunner, tmp_path: Path, moment: str) -> None:
    result = run.invoke(app, ["restore", "eu", "--to", moment, "--data", str(tmp_path)])
    assert result.exit_code == 1
    assert "not restored:" in result.output
