"""The code that processes of a stack run: what it goes by, and a copy of it for who replays with it later."""

import gzip
import hashlib
import io
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PACKAGES: Final = ("domain", "workflows", "activities", "integrations", "api", "workers")  # as `make release-archive`
_SUFFIXES: Final = {".py", ".lua", ".html", ".css", ".js"}
_ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Source:
    """The code that a process runs: the build id that it goes by, and the folder with it where that is not ours."""

    build: str
    folder: Path | None = None


def present_source() -> Source:
    """Return our own code as a process started now would run it; its build id is a digest of it.

    A commit would not do here: pinned workflows must not meet code that was edited since.
    """
    return Source(_build_of(_files()))


def keep_source(folder: Path) -> Source:
    """Return our own code, once a copy of it is in a folder by its build. Safe to repeat.

    Executions name the build that carried them out: replays with recorded code find it there (`StoredReleases`) when
    the code has long been edited.
    """
    files = _files()
    build = _build_of(files)
    kept = folder / f"{build}.tar.gz"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{build}.{os.getpid()}"
        part.write_bytes(_archive_of(files, build))
        part.replace(kept)
    return Source(build)


def _files() -> dict[str, bytes]:
    """Return the content of every file of ours that a process reads, by its path from the root, in order."""
    paths = (path for package in PACKAGES for path in sorted((_ROOT / package).rglob("*")) if path.suffix in _SUFFIXES)
    return {path.relative_to(_ROOT).as_posix(): path.read_bytes() for path in paths}


def _build_of(files: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(name.encode() + b"\0" + content + b"\0")
    return f"source-{digest.hexdigest()[:12]}"


def _archive_of(files: dict[str, bytes], build: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", pax_headers={"comment": build}) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0)
