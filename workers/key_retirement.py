"""Ends the in-flight keys of one cell: what they encrypted is then noise, also in backups."""

import asyncio
from datetime import UTC, datetime, time, timedelta

import structlog
from temporalio.client import Client
from temporalio.service import RPCError

from domain.errors import DomainError
from domain.ports import KeyManagement
from integrations.keys.key_ids import parse_key_id
from integrations.keys.rotation import destroy_old_in_flight_keys

_EVERY_S = 3600.0

log = structlog.get_logger()


async def retire_in_flight_keys(cell: str, keys: KeyManagement, temporal: Client) -> None:
    """Destroy what is due now and every hour, until cancelled; what fails is tried again in an hour."""
    while True:
        try:
            await destroy_old_in_flight_keys(keys, cell, datetime.now(UTC).date(), InFlightKeys(temporal).is_needed)
        except (DomainError, RPCError) as error:
            log.warning("in_flight_keys_not_retired", cell=cell, error=str(error))
        await asyncio.sleep(_EVERY_S)


class InFlightKeys:
    """Who still needs a key, by the executions of one namespace."""

    def __init__(self, temporal: Client) -> None:
        self._temporal = temporal

    async def is_needed(self, key_id: str) -> bool:
        """Tell whether an execution is open that began before the key went out of use.

        Listing lags by seconds, and a key is days old when this is asked.

        Raises:
            RPCError: Temporal cannot tell.
        """
        _, made, _ = parse_key_id(key_id)
        out_of_use = datetime.combine(made, time(), UTC) + timedelta(days=2)  # a day, and a process late to change
        open_since = f"ExecutionStatus = 'Running' AND StartTime < '{out_of_use.isoformat()}'"
        return (await self._temporal.count_workflows(open_since)).count > 0
