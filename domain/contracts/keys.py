"""Rotation of key-encryption keys: ids and wrapped forms only, never a key."""

from domain.contracts.base import Contract


class RotateKeysInput(Contract):
    """New versions of these key-encryption keys where the newest is `age_days` old, and the end of old ones.

    A version is destroyed once nothing live is wrapped under it and its successor is `grace_days` old, so that nobody
    is in the middle of using it. `age_days` 0 makes new versions at once.
    """

    purposes: tuple[str, ...]
    cells: tuple[str, ...]
    age_days: int = 30
    grace_days: int = 2


class KeyVersions(Contract):
    """The versions of a key that still exist, oldest first."""

    purpose: str
    key_ids: tuple[str, ...] = ()


class ReplaceKeyInput(Contract):
    """Makes a new version where `newest` still is the newest one; empty where there is none."""

    purpose: str
    newest: str


class RewrapCellInput(Contract):
    """Names a cell whose surveys get the wrapped keys that the catalogue has."""

    cell: str


class Rewrapped(Contract):
    """How many surveys got their keys in another wrapping, and how many could not: what wraps theirs is kept."""

    surveys: int
    failed: int = 0


class DestroyOldKeysInput(Contract):
    """Destroys old versions of a key that nothing in the catalogue or in these cells needs."""

    purpose: str
    cells: tuple[str, ...]
    grace_days: int


class RotatedKeys(Contract):
    """What a rotation came to."""

    made: tuple[str, ...] = ()
    destroyed: tuple[str, ...] = ()
    rewrapped: int = 0
    failed: int = 0
