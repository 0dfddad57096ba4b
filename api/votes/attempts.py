"""Attempts to vote, told once a second for fraud detection: pseudonyms and outcomes, never who or what."""

import asyncio
from collections import Counter
from datetime import UTC, datetime
from typing import Protocol

import structlog

from domain.contracts.voting import AttemptCount, VotesAttempted
from domain.errors import DomainError
from domain.pseudonyms import pseudonym
from domain.risk import network_of
from domain.tokens import VotingClaims

_EVERY_S = 1.0
_KEPT_MAX = 10_000  # distinct rows of one message; what goes beyond is counted only
_NETWORKS_MAX = 50_000

log = structlog.get_logger()


class AttemptPublisher(Protocol):
    """Sends one message; may fail, and then the second is lost."""

    async def publish_attempts(self, message: VotesAttempted) -> None:
        """Send what was seen within a second."""
        ...


class Attempts:
    """Counts attempts of one process; bounded, and never in a vote's way."""

    def __init__(self, publisher: AttemptPublisher, pseudonym_key: bytes, process: str) -> None:
        self._publisher = publisher
        self._key = pseudonym_key
        self._process = process
        self._counts: Counter[tuple[str, str, str, str, str]] = Counter()
        self._left_out = 0
        self._networks: dict[str, str] = {}

    def note(self, claims: VotingClaims, client: str, outcome: str) -> None:
        """Count one attempt."""
        row = (claims.survey_id, claims.region, outcome, claims.device, self._network(client))
        if row in self._counts or len(self._counts) < _KEPT_MAX:
            self._counts[row] += 1
        else:
            self._left_out += 1

    async def run(self) -> None:
        """Send once a second until cancelled."""
        while True:
            await asyncio.sleep(_EVERY_S)
            await self.flush()

    async def flush(self) -> None:
        """Send what was seen since the last time; a failure loses it and is logged."""
        if not self._counts:
            return
        counts, left_out = self._counts, self._left_out
        self._counts, self._left_out = Counter(), 0
        message = VotesAttempted(
            process=self._process,
            at=datetime.now(UTC),
            attempts=tuple(
                AttemptCount(
                    survey_id=survey_id, region=region, outcome=outcome, device=device, network=network, count=count
                )
                for (survey_id, region, outcome, device, network), count in counts.items()
            ),
            left_out=left_out,
        )
        try:
            await self._publisher.publish_attempts(message)
        except DomainError as error:
            log.info("attempts_lost", code=error.code, attempts=counts.total())

    def _network(self, client: str) -> str:
        found = self._networks.get(client)
        if found is None:
            if len(self._networks) >= _NETWORKS_MAX:
                self._networks.clear()
            found = pseudonym(self._key, "network", network_of(client)).hex()
            self._networks[client] = found
        return found
