"""The code of other releases, for replays with it: out of the repository, or as it was installed or stored."""

import io
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Final

from comitia.stack.source import PACKAGES
from integrations.temporal.replay_releases import Code, StoredReleases

_ROOT: Final = Path(__file__).parents[1]
_COMMIT: Final = re.compile(r"(?:release-)?(?P<commit>[0-9a-f]{7,40})")
_GIT_WITHIN_S: Final = 60


class Releases:
    """Finds the code of a release by what somebody calls it, or by the build that a history names."""

    def __init__(self, own_build: str, scratch: Path, stored: Path | None = None, *, repository: Path = _ROOT) -> None:
        """`scratch` is where code is unpacked; `stored` has releases as folders or archives, by their builds."""
        self._stored = StoredReleases(own_build, scratch, stored)
        self._scratch = scratch
        self._repository = repository

    def named(self, name: str) -> Code:
        """Return the code of a folder, of an archive, or of a ref of git.

        Raises:
            LookupError: there is none of this name.
        """
        path = Path(name)
        if path.is_dir():
            return Code(path.resolve().name, path.resolve())
        if path.is_file():
            return self._stored.unpacked(path)
        commit = self._commit(name)
        if commit is None:
            raise LookupError(f"{name}: no folder or archive of a release, and no ref of a repository at hand")
        return self._of_commit(commit)

    def of_build(self, build: str) -> Code | None:
        """Return the code of a build, or None where it is not at hand. Raises LookupError for a broken archive."""
        if (code := self._stored.of_build(build)) is not None:
            return code
        named = _COMMIT.fullmatch(build)
        commit = None if named is None else self._commit(named["commit"])
        return None if commit is None else Code(build, self._of_commit(commit).folder)

    def _of_commit(self, commit: str) -> Code:
        folder = self._scratch / commit
        if not folder.exists():
            content = self._git("archive", "--format=tar", commit, *PACKAGES)
            if content is None:
                raise LookupError(f"{commit}: a commit without the packages of a release")
            with tarfile.open(fileobj=io.BytesIO(content)) as file:
                file.extractall(folder, filter="data")
        return Code(commit, folder)

    def _commit(self, ref: str) -> str | None:
        found = self._git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
        return None if found is None else found.decode().strip()

    def _git(self, *arguments: str) -> bytes | None:
        """Return what git says about the repository, or None where it has nothing to say."""
        try:
            done = subprocess.run(
                ("git", "-C", str(self._repository), *arguments),
                capture_output=True,
                timeout=_GIT_WITHIN_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout if done.returncode == 0 else None
