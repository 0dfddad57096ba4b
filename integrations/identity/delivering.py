"""Takes what vendors sent to the processes that wait for it, once it is stored."""

from dataclasses import dataclass

from domain.contracts.registration import RegistrationRules
from domain.ids import CASE_ID
from domain.registration import RegistrationPolicy
from domain.registrations import Registrations
from domain.webhook_inbox import WebhookInbox
from domain.webhooks import WebhookEvent
from integrations.temporal.registrations import TemporalRegistrations


def rules_for(policy: RegistrationPolicy, region: str) -> RegistrationRules:
    """Return what a policy says of a region, as a process keeps it."""
    return RegistrationRules(
        version=policy.version, minimum_age=policy.minimum_age, provider=policy.proofing.provider(region)
    )


@dataclass(frozen=True, slots=True)
class EvidenceDelivery:
    """Delivers the events of one cell."""

    registrations: Registrations
    inbox: WebhookInbox
    processes: TemporalRegistrations
    policy: RegistrationPolicy

    async def deliver(self, event: WebhookEvent) -> bool:
        """Tell the process that an event is for, and note that; False where it is not there yet. Safe to repeat.

        Raises:
            DomainError: `directory_unavailable`, `key_unavailable`, `workflows_unavailable`; the event stays.
        """
        found = CASE_ID.fullmatch(event.case_id)
        registration = None if found is None else await self.registrations.get(found["registration"])
        rules = rules_for(self.policy, "" if registration is None else registration.region)
        told = await self.processes.tell(event, registration, rules)
        if told:
            await self.inbox.handled(event.vendor, event.delivery_id)
        return told
