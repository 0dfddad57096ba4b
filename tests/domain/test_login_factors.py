"""Which further factors a challenged login is asked for."""

import pytest

from domain.contracts.login import StepUpFactor
from domain.logins import further_factors
from domain.sessions import LoginMethod

TOTP, PASSKEY, PASSWORD = StepUpFactor.TOTP, StepUpFactor.PASSKEY, StepUpFactor.PASSWORD
MAIL, PAPER = StepUpFactor.MAIL_CODE, StepUpFactor.RECOVERY_CODE


@pytest.mark.parametrize(
    ("method", "owned", "factors"),
    [
        (LoginMethod.PASSWORD, (PASSWORD,), (MAIL,)),
        (LoginMethod.PASSWORD, (PASSWORD, PAPER), (PAPER, MAIL)),
        (LoginMethod.MAIL_CODE, (), ()),
        (LoginMethod.MAIL_CODE, (PASSWORD,), (PASSWORD,)),
        (LoginMethod.PASSKEY, (PASSKEY,), (MAIL,)),
        (LoginMethod.OIDC, (), (MAIL,)),
        # A mailbox alone is never enough for who has more
        (LoginMethod.PASSWORD, (TOTP, PASSWORD), (TOTP,)),
        (LoginMethod.PASSWORD, (TOTP, PASSKEY, PAPER, PASSWORD), (TOTP, PASSKEY, PAPER)),
        (LoginMethod.PASSWORD, (PASSKEY, PASSWORD), (PASSKEY,)),
        (LoginMethod.MAIL_CODE, (TOTP, PASSWORD), (TOTP,)),
        (LoginMethod.MAIL_CODE, (PASSKEY, PASSWORD), (PASSKEY,)),
        (LoginMethod.PASSKEY, (TOTP, PASSKEY), (TOTP,)),
    ],
)
def test_a_further_factor_proves_more_than_the_first(
    method: LoginMethod, owned: tuple[StepUpFactor, ...], factors: tuple[StepUpFactor, ...]
) -> None:
    assert set(further_factors(owned, method)) == set(factors)
