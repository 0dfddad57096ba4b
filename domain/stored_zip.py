"""Archives in the one form that a list of files has: a ZIP without compression, times, rights or comments.

Every tool opens it, and two archives of the same files in the same order are the same bytes. Source: APPNOTE 6.3.
"""

import re
import struct
from collections.abc import Sequence
from typing import Final
from zlib import crc32

Files = Sequence[tuple[str, bytes]]

FILES_MAX: Final = 65_535
BYTES_MAX: Final = 1 << 30  # of the archive, which is held in memory by whoever makes or checks it
_NAME: Final = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9-]+)?(?:/[a-z0-9_-]+(?:\.[a-z0-9-]+)?)*")
_VERSION: Final = 20
_EPOCH: Final = (1 << 5) | 1  # 1980-01-01, the first day that the format knows
_LOCAL: Final = struct.Struct("<4s5H3I2H")
_CENTRAL: Final = struct.Struct("<4s6H3I5H2I")
_END: Final = struct.Struct("<4s4H2IH")
_IS_LOCAL, _IS_CENTRAL, _IS_END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"


class NotStoredZipError(ValueError):
    """This is no archive of this form."""


def write_zip(files: Files) -> bytes:
    """Return the archive of these files; names are lower case, without `..`, each once.

    Raises:
        ValueError: a name is none, there are too many files, or the archive is too large.
    """
    names = [name for name, _ in files]
    if len(files) > FILES_MAX or len(set(names)) < len(names) or not all(map(_NAME.fullmatch, names)):
        raise ValueError("not the files of an archive")
    local, central, place = list[bytes](), list[bytes](), 0
    for name, content in files:
        about = (_VERSION, 0, 0, 0, _EPOCH, crc32(content), len(content), len(content), len(name), 0)
        part = _LOCAL.pack(_IS_LOCAL, *about) + name.encode() + content
        central.append(_CENTRAL.pack(_IS_CENTRAL, _VERSION, *about, 0, 0, 0, 0, place) + name.encode())
        local.append(part)
        place += len(part)
    size = sum(map(len, central))
    if place + size > BYTES_MAX:
        raise ValueError("the archive is too large")
    return b"".join([*local, *central, _END.pack(_IS_END, 0, 0, len(files), len(files), size, place, 0)])


def read_zip(content: bytes) -> list[tuple[str, bytes]]:
    """Return the files of an archive, in their order.

    Raises:
        NotStoredZipError: it is none, or not byte for byte what `write_zip` makes of its files.
    """
    files, place = list[tuple[str, bytes]](), 0
    try:
        while content[place : place + len(_IS_LOCAL)] == _IS_LOCAL:
            found = _LOCAL.unpack_from(content, place)
            begin = place + _LOCAL.size + found[9]
            place = begin + found[8]
            files.append((content[begin - found[9] : begin].decode("ascii"), content[begin:place]))
        is_whole = write_zip(files) == content
    except (ValueError, struct.error) as error:
        raise NotStoredZipError("not an archive of this form") from error
    if not is_whole:
        raise NotStoredZipError("not an archive in the one form")
    return files
