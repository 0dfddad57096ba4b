"""Files that somebody made for whoever checks them: nothing hangs, nothing is drawn over, nothing is a crash."""

import json
import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from typer.testing import CliRunner, Result

from comitia.cli import app as command_line
from comitia.log_copy import LogFolder
from comitia.terminal import inert
from domain.certificates import BALLOTS_FORMAT, FORMAT
from tests.log_world import VERIFIER_KEY, leaf, sealed_files

DRAWN = "x\x1b[2J\x1b[H\nok   1 signature: Ed25519\rThe certificate of s_a is good.\u202e"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command_line, ["verify", *map(str, arguments)])


def certificate(folder: Path, key_id: str) -> Path:
    """Return a file that names its key so; nothing of it is right."""
    published = {"format": BALLOTS_FORMAT, "files": [], "ballots": 0, "root": ""}
    empty = {"ballots": 0, "options": {}, "regions": {}}
    content = {
        "format": FORMAT,
        "publishedBallots": published,
        "totals": empty,
        "cells": [],
        "survey": {"id": "s_a", "questions": []},
        "reconciliation": {"differences": 0},
        "recount": {"ballots": 0, "differences": 0},
        "ledgerRoot": "",
        **dict.fromkeys(("participations", "ballots", "batches"), 0),
    }
    signature = {"algorithm": "Ed25519", "keyId": key_id, "value": ""}
    (folder / "c.json").write_text(json.dumps({"certificate": content, "id": DRAWN, "signature": signature}))
    (folder / "keys.json").write_text('{"keys": []}')
    return folder / "c.json"


def test_a_file_cannot_draw_a_good_result_over_a_bad_one(tmp_path: Path) -> None:
    said = run("certificate", certificate(tmp_path, DRAWN), "--key", tmp_path / "keys.json")
    assert said.exit_code == 1
    lines = said.output.splitlines()
    assert lines[0].startswith("FAIL 1 signature: the key x\\x1b[2J")
    assert lines[-1] == "This certificate is NOT good."
    assert not any(line.startswith(("ok   1 ", "The certificate")) for line in lines)
    assert all(character.isprintable() or character == "\n" for character in said.output)


def test_what_can_be_read_is_shown_as_it_is() -> None:
    assert inert("Wahl für Größe, 選挙 [red]") == "Wahl für Größe, 選挙 [red]"
    assert inert("\ud800\x9b") == "\\ud800\\x9b"


@pytest.mark.parametrize("kind", ["pipe", "device", "endless", "loop", "folder"])
@pytest.mark.parametrize("path", ["tile/0/000.p/5", "tile/entries/000.p/5", "checkpoints/x000/x000/x000/005"])
def test_a_copy_with_something_else_in_a_files_place_is_not_good(tmp_path: Path, path: str, kind: str) -> None:
    folder = tmp_path / "log"
    for name, content in sealed_files([leaf(number) for number in range(5)], (5,)).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (tmp_path / "keys.txt").write_text(f"{VERIFIER_KEY}\n")
    assert run("log", folder, "--key", tmp_path / "keys.txt").exit_code == 0
    place = folder / path
    place.unlink()
    match kind:
        case "pipe":
            os.mkfifo(place)
        case "device":
            place.symlink_to("/dev/zero")
        case "endless":
            with place.open("wb") as file:
                file.truncate(1 << 40)  # a hole: it takes no room
        case "loop":
            place.symlink_to(place)
        case "folder":
            place.mkdir()
    said = run("log", folder, "--key", tmp_path / "keys.txt")
    assert said.exit_code == 1
    assert said.exception is None or isinstance(said.exception, SystemExit)
    assert "is good" not in said.output


@pytest.mark.parametrize("nested", ["[", '{"keys":['])
def test_keys_that_are_nested_without_end_are_no_keys(tmp_path: Path, nested: str) -> None:
    (tmp_path / "deep").write_text(nested * 100_000)
    for kind, option in (("bundle", "--keys"), ("certificate", "--key")):
        said = run(kind, certificate(tmp_path, "k"), option, tmp_path / "deep")
        assert (said.exit_code, said.output.startswith("not checked: ")) == (1, True), said.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("certificate", "large", "--key", "keys"),
        ("certificate", "c.json", "--key", "large"),
        ("bundle", "large", "--keys", "keys"),
        ("receipt", "large", "--key", "keys"),
        ("entry", "keys", "--proof", "large", "--key", "keys"),
        ("log", ".", "--key", "keys", "--head", "large"),
    ],
)
def test_a_file_without_end_is_not_read_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr("comitia.verify.BYTES_MAX", 1 << 20)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keys").write_text("")
    certificate(tmp_path, "k")
    (tmp_path / "large").symlink_to("/dev/zero")
    said = run(*arguments)
    assert (said.exit_code, "larger than anything that is checked: large" in said.output) == (1, True), said.output


def test_folders_that_lead_into_themselves_have_an_end(tmp_path: Path) -> None:
    checkpoints = tmp_path / "log" / "checkpoints"
    checkpoints.mkdir(parents=True)
    for number in range(8):
        (checkpoints / f"x{number:03d}").symlink_to(".")
    (tmp_path / "keys.txt").write_text(f"{VERIFIER_KEY}\n")
    said = run("log", tmp_path / "log", "--key", tmp_path / "keys.txt")
    assert said.exit_code == 1
    assert said.output.startswith("not checked: ")


def test_a_file_of_a_log_has_an_end(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)
    content = LogFolder(tmp_path).read("large")
    assert content is not None
    assert len(content) < 1 << 25


class Elsewhere(BaseHTTPRequestHandler):
    """Sends whoever asks for the keys to another address, which has them."""

    def do_GET(self) -> None:
        if self.path == "/keys":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"keys": []}')
        else:
            self.send_response(302)
            self.send_header("location", "/keys")
            self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def elsewhere() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_what_is_asked_of_this_machine_comes_from_nowhere_else(
    tmp_path: Path, elsewhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nobody is there
    found = certificate(tmp_path, "a key")
    told = run("certificate", found, "--key", f"{elsewhere}/keys")
    assert "FAIL 1 signature: the key a key is not among those given" in told.output
    sent_away = run("certificate", found, "--key", f"{elsewhere}/redirected")
    assert sent_away.exit_code == 1
    assert sent_away.output.startswith("not checked: HTTP Error 302")
