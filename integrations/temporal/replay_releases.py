"""The code of other releases, for replays with it, as it was installed or stored: folders and archives by builds."""

import lzma
import re
import shutil
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_BUILD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_ARCHIVES: Final = (".tar.xz", ".tar.gz", ".tar")


@dataclass(frozen=True, slots=True)
class Code:
    """Code that executions are replayed with: its build, and the folder that it is in; None is our own."""

    build: str
    folder: Path | None = None


class StoredReleases:
    """Finds the code of a release by the build that a history names."""

    def __init__(self, own_build: str, scratch: Path, stored: Path | None = None) -> None:
        """`scratch` is where code is unpacked; `stored` has releases as folders or archives, by their builds."""
        self._own_build = own_build
        self._scratch = scratch
        self._stored = stored

    def of_build(self, build: str) -> Code | None:
        """Return the code of a build, or None where it is not at hand. Raises LookupError for a broken archive."""
        if build == self._own_build:
            return Code(build)
        if self._stored is None or not is_build(build):
            return None
        if (self._stored / build).is_dir():
            return Code(build, (self._stored / build).resolve())
        archives = (self._stored / f"{build}{suffix}" for suffix in _ARCHIVES)
        archive = next(filter(Path.is_file, archives), None)
        return None if archive is None else self.unpacked(archive, build)

    def unpacked(self, archive: Path, build: str = "") -> Code:
        """Return the code in an archive, of the build that it says it is of where none is given. Raises LookupError."""
        try:
            with tarfile.open(archive) as file:
                build = build or str(file.pax_headers.get("comment", "")) or archive.name.partition(".")[0]
                folder, part = self._scratch / build, self._scratch / f".{build}"
                if not folder.exists():
                    shutil.rmtree(part, ignore_errors=True)
                    file.extractall(part, filter="data")
                    part.rename(folder)
        except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError) as error:
            raise LookupError(f"{archive}: not an archive of a release") from error
        return Code(build, folder)


def is_build(name: str) -> bool:
    """Tell whether a build's name can be a part of a path: it comes out of a history."""
    return _BUILD.fullmatch(name) is not None
