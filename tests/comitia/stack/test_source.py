"""The copy of a stack's own code: found by its build, whole, and the same however often it is kept."""

import subprocess
import sys
from pathlib import Path

import pytest

import comitia.stack.source as kept_source
from comitia.stack.source import PACKAGES, keep_source, present_source
from integrations.temporal.replay_releases import StoredReleases

_LOADS = "import workflows.signatures as it; it.all_signatures(); import api.votes.composition; print(it.__file__)"


def test_what_is_kept_is_found_by_its_build_and_can_be_run(tmp_path: Path) -> None:
    build = present_source().build
    releases = tmp_path / "releases"
    assert keep_source(releases) == present_source()
    assert [each.name for each in releases.iterdir()] == [f"{build}.tar.gz"]
    code = StoredReleases("another", tmp_path, releases).of_build(build)
    assert code is not None
    assert code.folder is not None
    assert sorted(each.name for each in code.folder.iterdir()) == sorted(PACKAGES)
    told = subprocess.run(
        (sys.executable, "-c", _LOADS),
        cwd=code.folder,
        env={"PYTHONPATH": str(code.folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == str(code.folder / "workflows" / "signatures.py")


def test_the_same_code_is_kept_once_and_edited_code_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in PACKAGES:
        (tmp_path / "here" / package).mkdir(parents=True)
        (tmp_path / "here" / package / "__init__.py").write_text('"""It is here."""\n')
    monkeypatch.setattr(kept_source, "_ROOT", tmp_path / "here")
    first, releases = kept_in(tmp_path / "releases"), tmp_path / "releases"
    written = first.stat().st_mtime_ns, first.read_bytes()
    assert kept_in(releases) == first
    assert (first.stat().st_mtime_ns, first.read_bytes()) == written
    # The same code elsewhere is the same build: executions of one may be replayed at the other
    monkeypatch.setattr(kept_source, "_ROOT", (tmp_path / "here").rename(tmp_path / "there"))
    assert kept_in(tmp_path / "elsewhere").read_bytes() == written[1]
    (tmp_path / "there" / "domain" / "__init__.py").write_text('"""It is there."""\n')
    edited = kept_in(releases)
    assert edited.name == f"{present_source().build}.tar.gz" != first.name
    assert sorted(releases.iterdir()) == sorted([first, edited])


def kept_in(folder: Path) -> Path:
    return folder / f"{keep_source(folder).build}.tar.gz"
