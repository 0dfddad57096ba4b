"""Public readers of logs in tiles, none of which is ours: what they say of a copy, and of proofs out of it."""

import re
import subprocess
from pathlib import Path
from typing import Final

from comitia.stack.built_tools import TLOG_FSCK, TLOG_PROOFS, needed_tool

_WITHIN_S: Final = 60
_WORKERS: Final = 8  # of fsck: one that has seen a bad tile stops, and with it all of them where there is no other
_GOOD = re.compile(r"Successfully fsck'd log with size (\d+) and root \S+ \(([0-9a-f]{64})\)")


class NotGoodError(Exception):
    """A public tool does not take a copy; the text is what it says."""


def fsck(copy: Path, verifier_key: str) -> tuple[int, str]:
    """Have every file of a copy read; return its size and its root in hex. What is said decides: it ends with 0 always.

    Raises:
        NotGoodError: something is not as it was signed.
    """
    key = copy.with_name(f"{copy.name}.vkey")
    key.write_text(f"{verifier_key}\n")
    address = (f"--storage_url=file://{copy}/", f"--public_key={key}")
    said = _run(TLOG_FSCK, *address, "--ui=false", "--logtostderr", f"--N={_WORKERS}").stderr
    found = _GOOD.search(said)
    if found is None:
        raise NotGoodError(said)
    return int(found[1]), found[2]


def proves_entry(verifier_key: str, proof: Path, entry: Path) -> str:
    """Return what entry a proof is of, or nothing where it proves none."""
    return _run(TLOG_PROOFS, verifier_key, "entry", str(proof), str(entry)).stdout


def continues(verifier_key: str, old: Path, new: Path, hashes: list[bytes]) -> str:
    """Return how far a log goes on from an earlier tree head, or nothing where that is not proved."""
    return _run(TLOG_PROOFS, verifier_key, "continues", str(old), str(new), *(one.hex() for one in hashes)).stdout


def _run(tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(needed_tool(tool)), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=_WITHIN_S, check=False)
