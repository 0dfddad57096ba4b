"""Rotation of key-encryption keys: ids and wrapped forms only, never a key."""

from domain.contracts.base import Contract


class RotateKeysInput(Contract):
    """New versions of these key-encryption keys where the newest is `age_days` old, and the end of old ones.

    A version is destroyed once nothing live is wrapped under it and its successor is `grace_days` old, so that nobody
    is in the middle of using it. `age_days` 0 makes new versions at once.

    Personal keys of voters are wrapped under `personal_purpose`; `settle_s` is waited for before they are re-wrapped,
    so that none is on its way into a cell under the old version. Keys of hashes (`hash_purposes`) get a new version
    where the newest is `hash_age_days` old, and lose none. Keys of tokens and cookies (`token_purposes`) get one
    where the newest is `token_age_days` old, and lose the old ones when that one is `grace_days` old.
    """

    purposes: tuple[str, ...]
    cells: tuple[str, ...]
    age_days: int = 30
    grace_days: int = 2
    personal_purpose: str = ""  # of executions of before: none
    settle_s: int = 0
    hash_purposes: tuple[str, ...] = ()
    hash_age_days: int = 365
    token_purposes: tuple[str, ...] = ()
    token_age_days: int = 30
    actor: str = ""  # whoever gave the command, as entries name them; nobody where it is the schedule's


class KeyVersions(Contract):
    """The versions of a key that still exist, oldest first."""

    purpose: str
    key_ids: tuple[str, ...] = ()


class ReplaceKeyInput(Contract):
    """Makes a new version where `newest` still is the newest one; empty where there is none."""

    purpose: str
    newest: str
    actor: str = ""


class RewrapCellInput(Contract):
    """Names a cell whose surveys get the wrapped keys that the catalogue has."""

    cell: str


class RewrapPersonalInput(Contract):
    """Names a cell whose voters' personal keys get the newest version of `purpose` as their wrapping."""

    cell: str
    purpose: str


class Rewrapped(Contract):
    """How many surveys got their keys in another wrapping, and how many could not: what wraps theirs is kept.

    The same of voters and their personal keys.
    """

    surveys: int
    failed: int = 0
    voters: int = 0


class DestroyOldKeysInput(Contract):
    """Destroys old versions of a key that nothing in the catalogue or in these cells needs."""

    purpose: str
    cells: tuple[str, ...]
    grace_days: int
    actor: str = ""


class RetireTokenKeysInput(Contract):
    """Destroys the old versions of a key of tokens or cookies, once the newest is `grace_days` old."""

    purpose: str
    grace_days: int
    actor: str = ""


class RotatedKeys(Contract):
    """What a rotation came to."""

    made: tuple[str, ...] = ()
    destroyed: tuple[str, ...] = ()
    rewrapped: int = 0
    failed: int = 0
    voters: int = 0
