"""Takes what vendors send: checked over the raw body, stored before it is answered, told to its process afterwards."""

import asyncio
from collections.abc import Callable, Mapping

import structlog

from api.webhooks.grouping import GroupedStore
from domain.errors import DomainError, ErrorCode
from domain.ids import CASE_ID, cell_in
from domain.webhook_inbox import Delivery
from domain.webhooks import WebhookEvent, WebhookVerifier
from integrations.identity.delivering import EvidenceDelivery

# At once: telling costs ten times what keeping does, and whoever waits for an answer comes first. What comes while so
# many are told waits in the inbox, from where the identity worker takes it.
_TELLING_MAX = 16

log = structlog.get_logger()


class WebhookIntake:
    """The webhooks of every vendor, each kept in the cell whose case it is about.

    Only the event's identity is kept (which case, what kind, when), never its body: a webhook decides nothing.
    """

    def __init__(
        self,
        verifiers: Mapping[str, WebhookVerifier],
        cell_of: Callable[[str | None], EvidenceDelivery],
        watch: Callable[[str, Callable[[], float]], None] = lambda *_: None,
    ) -> None:
        """`cell_of` raises DomainError `wrong_cell` or `cell_unavailable`.

        `watch` is told of each cell how many wait there is read.
        """
        self._verifiers = verifiers
        self._cell_of = cell_of
        self._watch = watch
        self._stores: dict[str, GroupedStore] = {}
        self._telling: set[asyncio.Task[None]] = set()

    async def take(self, vendor: str, headers: Mapping[str, str], body: bytes) -> bool:
        """Return once an event is durable; False where it came before, or is about no case of ours.

        Raises:
            DomainError: `not_found` for an unknown vendor, `webhook_invalid`; `cell_unavailable`,
                `directory_unavailable` or `key_unavailable` where it was not kept, so that the vendor sends it again.
        """
        verifier = self._verifiers.get(vendor)
        if verifier is None:
            raise DomainError(ErrorCode.NOT_FOUND, "no such vendor")
        event = verifier.verify(headers, body)
        cell = cell_in(CASE_ID, event.case_id)
        if cell is None:
            return False
        try:
            delivery = self._cell_of(cell)
        except DomainError as error:
            if error.code is ErrorCode.WRONG_CELL:  # of a deployment that shares the vendor's account with us
                return False
            raise
        is_new = await self._store_of(cell, delivery).store(Delivery(event))
        if is_new:
            self._tell(delivery, event)
        return is_new

    async def close(self) -> None:
        """Store what is being stored, and give up what is being told: it waits in the inbox."""
        for store in self._stores.values():
            await store.close()
        for task in list(self._telling):
            task.cancel()
        await asyncio.gather(*self._telling, return_exceptions=True)

    def _store_of(self, cell: str, delivery: EvidenceDelivery) -> GroupedStore:
        if cell not in self._stores:
            store = self._stores[cell] = GroupedStore(delivery.inbox.store)
            self._watch(cell, lambda: store.waiting)
        return self._stores[cell]

    def _tell(self, delivery: EvidenceDelivery, event: WebhookEvent) -> None:
        if len(self._telling) >= _TELLING_MAX:
            return
        task = asyncio.create_task(_deliver(delivery, event))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)


async def _deliver(delivery: EvidenceDelivery, event: WebhookEvent) -> None:
    try:
        await delivery.deliver(event)
    except DomainError as error:
        log.warning("event_not_told", vendor=event.vendor, code=error.code)
