"""Webhooks of one cell from their arrival until they are forgotten."""

from collections.abc import Sequence
from datetime import timedelta

import asyncpg

from domain.errors import DomainError, ErrorCode
from domain.webhook_inbox import BODY_MAX, Delivery, WaitingDelivery
from domain.webhooks import WebhookEvent
from integrations.keys.inbox import InboxSeal
from integrations.postgres.durable import acknowledged
from integrations.postgres.failures import unavailable_as

# Sorted, so that two that bring the same deliveries never wait for each other.
_STORE = """
INSERT INTO identity.webhook (vendor, delivery_id, case_id, kind, sent_at, key_id, body)
SELECT vendor, delivery_id, case_id, kind, sent_at, key_id, body
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::bytea[])
    AS came (vendor, delivery_id, case_id, kind, sent_at, key_id, body)
ORDER BY vendor, delivery_id
ON CONFLICT ON CONSTRAINT uq_webhook_delivery DO NOTHING
RETURNING vendor, delivery_id
"""
# Whoever fails goes to the end of the row, so that nothing waits behind a delivery that cannot be handled.
_TAKE = """
UPDATE identity.webhook SET taken_until = now() + $2, attempts = attempts + 1
WHERE webhook_id IN (
    SELECT webhook_id FROM identity.webhook
    WHERE handled_at IS NULL AND taken_until <= now() AND received_at <= now() - $3::interval
    ORDER BY taken_until, webhook_id LIMIT $1 FOR UPDATE SKIP LOCKED
)
RETURNING webhook_id, vendor, delivery_id, case_id, kind, sent_at, received_at, key_id, body, attempts
"""
_HANDLED = """
UPDATE identity.webhook SET handled_at = now(), body = NULL
WHERE vendor = $1 AND delivery_id = $2 AND handled_at IS NULL
"""
_FORGET = "DELETE FROM identity.webhook WHERE handled_at < now() - $1::interval"


class PostgresWebhookInbox:
    """Implements `WebhookInbox`; needs the purpose `inbox` and the role `comitia_identity`."""

    def __init__(self, pool: asyncpg.Pool, seal: InboxSeal) -> None:
        self._pool = pool
        self._seal = seal

    async def store(self, deliveries: Sequence[Delivery]) -> tuple[bool, ...]:
        """Keep deliveries, durably on return; tell of each in order whether it is new."""
        if any(len(delivery.body) > BODY_MAX for delivery in deliveries):
            raise DomainError(ErrorCode.PAYLOAD_TOO_LARGE, "webhook")
        rows = []
        for delivery in deliveries:
            event = delivery.event
            sealed = await self._seal.seal(event.vendor, event.delivery_id, delivery.body)
            rows.append((event.vendor, event.delivery_id, event.case_id, event.kind, event.sent_at, *sealed))
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            async with acknowledged(self._pool) as connection:
                stored = await connection.fetch(_STORE, *(zip(*rows, strict=True) if rows else [[]] * 7))
        new = {(row["vendor"], row["delivery_id"]) for row in stored}
        told = []
        for delivery in deliveries:  # of two in one call the first is new
            name = (delivery.event.vendor, delivery.event.delivery_id)
            told.append(name in new)
            new.discard(name)
        return tuple(told)

    async def take(
        self, limit: int, lease: timedelta, *, older_than: timedelta = timedelta(0)
    ) -> tuple[WaitingDelivery, ...]:
        """Take deliveries to handle, oldest first; who does not say `handled` within `lease` leaves them to others."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            rows = await self._pool.fetch(_TAKE, limit, lease, older_than)
        return tuple([await self._waiting(row) for row in sorted(rows, key=lambda row: row["webhook_id"])])

    async def _waiting(self, row: asyncpg.Record) -> WaitingDelivery:
        event = WebhookEvent(row["vendor"], row["delivery_id"], row["case_id"], row["kind"], row["sent_at"])
        body = await self._seal.open(event.vendor, event.delivery_id, row["key_id"], row["body"])
        return WaitingDelivery(Delivery(event, body), row["received_at"], row["attempts"])

    async def handled(self, vendor: str, delivery_id: str) -> None:
        """Note that a delivery is handled; its body is gone from then on."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            await self._pool.execute(_HANDLED, vendor, delivery_id)

    async def forget(self, older_than: timedelta) -> int:
        """Forget deliveries that were handled so long ago, and return how many."""
        with unavailable_as(ErrorCode.DIRECTORY_UNAVAILABLE):
            return int((await self._pool.execute(_FORGET, older_than)).rpartition(" ")[2])
