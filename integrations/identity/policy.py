"""Who may register, and with which provider, as the settings say."""

from domain.proofing import ProofingPolicy
from domain.registration import RegistrationPolicy
from integrations.identity.opening import proofing_policy
from integrations.settings import Environment, Settings


def registration_policy(settings: Settings) -> RegistrationPolicy:
    """Return the policy.

    Raises:
        ValueError: in production, where it names a provider without settings; elsewhere such a provider is away.
    """
    given = settings.proofing
    if settings.environment is Environment.PRODUCTION:
        proofing = proofing_policy(settings)
    else:
        proofing = ProofingPolicy(given.version, given.default, dict(given.by_region))
    return RegistrationPolicy(
        version=given.version,
        minimum_age=settings.registration_minimum_age,
        regions=settings.registration_regions,
        proofing=proofing,
    )
