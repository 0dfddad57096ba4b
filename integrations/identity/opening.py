"""Opens the providers of identity proofing that the settings name, and the policy that selects among them."""

from collections.abc import Mapping
from contextlib import AsyncExitStack

from domain.proofing import IdentityProofing, ProofingPolicy
from domain.webhooks import WebhookVerifier
from integrations.identity.letters import webhook as letters_webhook
from integrations.identity.letters.client import LettersProofing
from integrations.identity.letters.webhook import LettersWebhooks
from integrations.identity.sumsub import webhook as sumsub_webhook
from integrations.identity.sumsub.client import SumsubProofing
from integrations.identity.sumsub.webhook import SumsubWebhooks
from integrations.settings import Settings
from integrations.telemetry.vendor_metrics import VendorMetrics
from integrations.vendor_http import VendorClient, open_vendor_client


def proofing_policy(settings: Settings) -> ProofingPolicy:
    """Return the policy of the settings.

    Raises:
        ValueError: it names a provider that the settings do not have; a process with it must not start.
    """
    given = settings.proofing
    policy = ProofingPolicy(given.version, given.default, dict(given.by_region))
    missing = {policy.default, *policy.by_region.values()} - _configured(settings)
    if missing:
        raise ValueError(f"the proofing policy names providers without settings: {', '.join(sorted(missing))}")
    return policy


async def open_providers(
    settings: Settings, lifetime: AsyncExitStack, metrics: VendorMetrics | None = None
) -> Mapping[str, IdentityProofing]:
    """Return every configured provider by name; their connections end with `lifetime`."""
    providers: dict[str, IdentityProofing] = {}

    async def client_of(vendor: str, base_url: str) -> VendorClient:
        calls = None if metrics is None else metrics.of(vendor)
        return await lifetime.enter_async_context(open_vendor_client(base_url, calls=calls))

    if settings.sumsub is not None:
        client = await client_of(sumsub_webhook.VENDOR, settings.sumsub.base_url)
        providers[sumsub_webhook.VENDOR] = SumsubProofing(client, settings.sumsub)
    if settings.letters is not None:
        client = await client_of(letters_webhook.VENDOR, settings.letters.base_url)
        providers[letters_webhook.VENDOR] = LettersProofing(client, settings.letters)
    return providers


def webhook_verifiers(settings: Settings) -> Mapping[str, WebhookVerifier]:
    """Return what checks the webhooks of each configured provider, by the vendor's name in their address."""
    verifiers: dict[str, WebhookVerifier] = {}
    if settings.sumsub is not None:
        verifiers[sumsub_webhook.VENDOR] = SumsubWebhooks(settings.sumsub)
    if settings.letters is not None:
        verifiers[letters_webhook.VENDOR] = LettersWebhooks(settings.letters)
    return verifiers


def _configured(settings: Settings) -> set[str]:
    return set(webhook_verifiers(settings))
