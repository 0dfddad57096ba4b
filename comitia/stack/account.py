"""PostgreSQL refuses to run as root: who it runs as instead, and where that user can reach files."""

import os
import pwd
import subprocess
from pathlib import Path

from comitia.stack.process import Account

_CANDIDATES = ("postgres", "nobody")


def unprivileged_account(data: Path) -> Account | None:
    """Return the account for a server with its data in `data`, or None where ours is not root and will do.

    Data that is there already decides, so that a user added later changes nothing.

    Raises:
        LookupError: this machine has no unprivileged user.
    """
    if os.geteuid() != 0:
        return None
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    for name in _CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise LookupError(f"root needs one of the users {', '.join(_CANDIDATES)} to run PostgreSQL")


def can_reach(account: Account | None, path: Path) -> bool:
    """Tell whether the account can enter a folder or execute a file, every folder above it included."""
    if account is None:
        return os.access(path, os.X_OK)
    command = ["/bin/sh", "-c", 'test -x "$1"', "sh", str(path)]
    asked = subprocess.run(
        command, user=account.uid, group=account.gid, extra_groups=[], cwd="/", capture_output=True, check=False
    )
    return asked.returncode == 0


def give(path: Path, account: Account | None) -> None:
    """Make the account the owner of a file or folder."""
    if account is not None:
        os.chown(path, account.uid, account.gid)
