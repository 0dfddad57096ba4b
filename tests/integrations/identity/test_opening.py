from contextlib import AsyncExitStack

import pytest

from domain.proofing import ProofingPolicy
from domain.tokens import Assurance
from integrations.identity.opening import open_providers, proofing_policy, webhook_verifiers
from integrations.settings import Environment, Settings
from integrations.vendor_settings import ProofingSettings
from tests.integrations.identity.conftest import World


async def test_providers_are_opened_by_name(world: World, case_id: str) -> None:
    async with AsyncExitStack() as lifetime:
        providers = await open_providers(world.settings, lifetime)
        assert {name: each.assurance for name, each in providers.items()} == {
            "sumsub": Assurance.HIGH,
            "letters": Assurance.SUBSTANTIAL,
        }
        assert all([await each.open_case(case_id) for each in providers.values()])
    assert set(webhook_verifiers(world.settings)) == set(providers)


def test_the_policy_is_the_settings_and_names_only_who_is_there(world: World) -> None:
    by_region = {"DE": "letters"}
    given = ProofingSettings(version=7, by_region=by_region)
    assert proofing_policy(world.settings.model_copy(update={"proofing": given})) == ProofingPolicy(
        7, "sumsub", by_region
    )
    for missing in (ProofingSettings(default="nobody"), ProofingSettings(by_region={"DE": "nobody"})):
        with pytest.raises(ValueError, match="without settings: nobody"):
            proofing_policy(world.settings.model_copy(update={"proofing": missing}))


async def test_without_settings_there_is_nobody() -> None:
    settings = Settings(environment=Environment.TEST)
    async with AsyncExitStack() as lifetime:
        assert await open_providers(settings, lifetime) == {}
    with pytest.raises(ValueError, match="without settings: sumsub"):
        proofing_policy(settings)
