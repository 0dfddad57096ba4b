"""What a deployment has to say before anybody can register."""

from typing import Any, cast

import pytest

from api.auth.registering import registration_desk
from integrations.settings import Environment, Settings

NOTHING = cast("Any", None)


def test_production_says_whose_people_may_register() -> None:
    silent = Settings(environment=Environment.PRODUCTION)
    with pytest.raises(ValueError, match="COMITIA_REGISTRATION_REGIONS"):
        registration_desk(silent, NOTHING, NOTHING, NOTHING, NOTHING)
    said = silent.model_copy(update={"registration_regions": frozenset({"DE"})})
    with pytest.raises(ValueError, match="the proofing policy names providers without settings"):
        registration_desk(said, NOTHING, NOTHING, NOTHING, NOTHING)
