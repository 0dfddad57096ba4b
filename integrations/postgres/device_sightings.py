"""Which accounts of one cell were seen on which devices, by keyed hash under every version of the key.

Everything was written under the oldest live version too, so the version that knows most knows all.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import asyncpg

from domain.accounts import KeyedHash
from domain.device_sightings import COUNTED_MAX, DeviceCorrelation
from domain.errors import ErrorCode
from integrations.postgres.durable import acknowledged
from integrations.postgres.failures import unavailable_as

_OTHERS_MAX = 20

SEEN_AGAIN = """ON CONFLICT ON CONSTRAINT pk_device_sighting DO UPDATE
SET first_seen = least(seen.first_seen, excluded.first_seen), last_seen = greatest(seen.last_seen, excluded.last_seen),
    flags = CASE WHEN excluded.last_seen >= seen.last_seen THEN excluded.flags ELSE seen.flags END
"""
_NOTE = f"""
INSERT INTO identity.device_sighting AS seen (key_id, digest, voter_id, first_seen, last_seen, flags)
SELECT DISTINCT key_id, digest, $3, $4::timestamptz, $4::timestamptz, $5::text[]
FROM unnest($1::text[], $2::bytea[]) AS device (key_id, digest) ORDER BY key_id, digest
{SEEN_AGAIN}
"""  # noqa: S608 - of constants
# A row for each account on the device, or one that names none: how many devices the account has is in all of them.
_CORRELATE = """
SELECT on_device.voter_id, of_account.devices FROM (
    SELECT coalesce(max(devices), 0) AS devices FROM (
        SELECT count(*) AS devices FROM identity.device_sighting WHERE voter_id = $5 AND last_seen >= $3 GROUP BY key_id
    ) AS by_version
) AS of_account LEFT JOIN (
    SELECT voter_id, max(last_seen) AS last_seen FROM (
        SELECT seen.voter_id, seen.last_seen
        FROM unnest($1::text[], $2::bytea[]) AS device (key_id, digest)
        JOIN identity.device_sighting AS seen USING (key_id, digest)
        WHERE seen.last_seen >= $3
        LIMIT $4
    ) AS found GROUP BY voter_id
) AS on_device ON true ORDER BY on_device.last_seen DESC, on_device.voter_id
"""


def counted_on_device(first: int) -> str:
    """Return what counts as `correlate` does, in one row of `accounts`, `known` and `devices`, for the voter who is $1.

    Its parameters from `first` on: key ids and digests of the device, since when, and how many sightings at most.
    """
    keys, digests, since, most = (f"${first + place}" for place in range(4))
    return f"""
SELECT on_device.accounts, on_device.known, of_account.devices FROM (
    SELECT coalesce(max(devices), 0) AS devices FROM (
        SELECT count(*) AS devices FROM identity.device_sighting
        WHERE voter_id = $1 AND last_seen >= {since}::timestamptz GROUP BY key_id
    ) AS by_version
) AS of_account, (
    SELECT count(DISTINCT voter_id) AS accounts, coalesce(bool_or(voter_id = $1), false) AS known FROM (
        SELECT seen.voter_id FROM unnest({keys}::text[], {digests}::bytea[]) AS device (key_id, digest)
        JOIN identity.device_sighting AS seen USING (key_id, digest)
        WHERE seen.last_seen >= {since}::timestamptz
        LIMIT {most}
    ) AS found
) AS on_device
"""  # noqa: S608 - of constants


_FORGET = "DELETE FROM identity.device_sighting WHERE voter_id = $1"
_FORGET_OLDER = "DELETE FROM identity.device_sighting WHERE last_seen < now() - $1::interval"


class PostgresDeviceSightings:
    """Implements `DeviceSightings`; made for the role `comitia_identity` in the cell's database."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def note(self, device: Sequence[KeyedHash], voter_id: str, at: datetime, flags: Iterable[str] = ()) -> None:
        """Note that an account was seen on a device, and what was said against the device then."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            await self._pool.execute(_NOTE, *arrays(device), voter_id, at, sorted(flags))

    async def correlate(self, device: Sequence[KeyedHash], voter_id: str, since: datetime) -> DeviceCorrelation:
        """Return what was seen of a device and of an account since then."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            rows = await self._pool.fetch(_CORRELATE, *arrays(device), since, sightings_max(device), voter_id)
        on_device = [row["voter_id"] for row in rows if row["voter_id"] is not None]
        others = [found for found in on_device if found != voter_id]
        return DeviceCorrelation(
            accounts_on_device=min(len(on_device), COUNTED_MAX),
            devices_of_account=rows[0]["devices"],
            others=tuple(others[:_OTHERS_MAX]),
            known=len(others) < len(on_device),
        )

    async def forget(self, voter_id: str) -> None:
        """Forget where an account was seen."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                await connection.execute(_FORGET, voter_id)

    async def forget_older(self, than: timedelta) -> int:
        """Forget sightings that old, and return how many."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            return int((await self._pool.execute(_FORGET_OLDER, than)).rpartition(" ")[2])


def sightings_max(device: Sequence[KeyedHash]) -> int:
    """Return how many sightings of a device are looked at, which was seen under each version of the key."""
    return COUNTED_MAX * max(1, len(device))


def arrays(device: Sequence[KeyedHash]) -> tuple[list[str], list[bytes]]:
    """Return the key ids and the digests of a device."""
    return [value.key_id for value in device], [value.digest for value in device]
