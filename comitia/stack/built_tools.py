"""Where fetched and built tools are: `make tools` builds from pinned modules what no wheel brings."""

import os
from pathlib import Path

TEMPORAL_SERVER = "temporal-server"
TEMPORAL_SQL_TOOL = "temporal-sql-tool"
TOXIPROXY = "toxiproxy-server"
VERSITYGW = "versitygw"  # an object store with locks, over S3's interface
LOCAL_KMS = "local-kms"  # a key management service, over AWS KMS's interface, for tests
TLOG_FSCK = "tlog-fsck"  # reads and checks a whole log in tiles; Tessera's
TLOG_PROOFS = "tlog-proofs"  # checks proofs by public libraries
CHROMIUM = "chromium"  # a link to Debian's, for tests of pages
BUILT_TOOLS = (TEMPORAL_SERVER, TEMPORAL_SQL_TOOL, TOXIPROXY, VERSITYGW, LOCAL_KMS, TLOG_FSCK, TLOG_PROOFS)


def tools_folder() -> Path:
    """Return where tools are kept: `COMITIA_TOOLS_FOLDER`, the checkout's `.tools`, or the user's cache."""
    if given := os.environ.get("COMITIA_TOOLS_FOLDER"):
        return Path(given)
    checkout = Path(__file__).parents[2]
    return checkout / ".tools" if (checkout / "pyproject.toml").exists() else Path.home() / ".cache/comitia/tools"


def built_tool(name: str) -> Path | None:
    """Return a program that was built from Go, or None where it was not."""
    found = tools_folder() / "bin" / name
    return found.absolute() if found.exists() else None


def needed_tool(name: str) -> Path:
    """Return the same. Raises FileNotFoundError, saying how to get it."""
    found = built_tool(name)
    if found is None:
        raise FileNotFoundError(f"{name} is missing: make tools builds it, which needs Go")
    return found
