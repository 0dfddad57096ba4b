"""The code of other releases is found by ref, folder, archive and build, and nothing else is taken for one."""

import subprocess
import tarfile
from pathlib import Path

import pytest

from comitia.releases import Releases
from integrations.temporal.replay_pool import workflows_in
from integrations.temporal.replay_releases import Code

REGISTRY = "from workflows.one import OneWorkflow\n\nWORKFLOWS = (OneWorkflow,)\n"
PACKAGES = ("domain", "workflows", "activities", "integrations", "api", "workers")


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    return subprocess.run(
        ("git", "-C", str(folder), *who, *arguments), capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    for package in PACKAGES:
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").touch()
    (folder / "workflows" / "registry.py").write_text(REGISTRY)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "one")
    git(folder, "tag", "v1")
    (folder / "workflows" / "registry.py").write_text("changed since\n")
    return folder


def found(code: Code | None) -> list[str]:
    assert code is not None
    assert code.folder is not None
    return workflows_in(code.folder)


def test_a_ref_is_the_code_as_it_was_committed(repository: Path, tmp_path: Path) -> None:
    releases = Releases("now", tmp_path / "scratch", repository=repository)
    commit = git(repository, "rev-parse", "v1")
    for ref in ("v1", "HEAD", commit[:12]):
        code = releases.named(ref)
        assert (code.build, found(code)) == (commit, ["workflows.one:OneWorkflow"])
    for build in (commit, f"release-{commit[:12]}"):
        of_build = releases.of_build(build)
        assert of_build is not None
        assert (of_build.build, found(of_build)) == (build, ["workflows.one:OneWorkflow"])


def test_a_folder_and_an_archive_are_found_where_there_is_no_repository(repository: Path, tmp_path: Path) -> None:
    stored = tmp_path / "stored"
    stored.mkdir()
    commit = git(repository, "rev-parse", "v1")
    git(repository, "archive", "--format=tar", "-o", str(stored / "b-2.tar"), "v1", *PACKAGES)
    with tarfile.open(stored / "b-2.tar") as archive:
        archive.extractall(stored / "b-1", filter="data")
    releases = Releases("now", tmp_path / "scratch", stored, repository=tmp_path / "nowhere")
    assert releases.named(str(stored / "b-1")).build == "b-1"
    assert releases.named(str(stored / "b-2.tar")).build == commit
    for build in ("b-1", "b-2"):
        assert found(releases.of_build(build)) == ["workflows.one:OneWorkflow"]
    assert releases.of_build("now") == Code("now")
    assert releases.of_build(commit) is None


@pytest.mark.parametrize("name", ["../stored", "a/b", "-x", ".git", "", "--help", "HEAD", "f" * 40, "a\nb"])
def test_what_is_no_build_is_none(repository: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "stored").mkdir()
    assert Releases("now", tmp_path / "scratch", tmp_path / "stored", repository=repository).of_build(name) is None


def test_what_is_no_release_is_refused(repository: Path, tmp_path: Path) -> None:
    releases = Releases("now", tmp_path / "scratch", repository=repository)
    (tmp_path / "broken.tar").write_bytes(b"no archive")
    for name in ("v2", str(tmp_path / "broken.tar"), "--output=x"):
        with pytest.raises(LookupError):
            releases.named(name)
    with pytest.raises(LookupError, match="not the code of a release"):
        workflows_in(tmp_path)
