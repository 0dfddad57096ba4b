"""What support may have done: for which roles, at which stages, for which reasons."""

import pytest

from domain.cases import CaseKind
from domain.masking import MaskedField, masked_contact
from domain.registrations import RegistrationStage
from domain.support_actions import RULES, SupportAction, SupportReason, action_id_of, may_act
from domain.tokens import Role
from domain.unmasking import approving_role, asking_role, unmasking_id_of

CASE = "r_eu_" + "a" * 26


def test_every_action_has_its_rule_and_every_reason_is_one_of_some_action() -> None:
    assert RULES.keys() == set(SupportAction)
    assert {reason for rule in RULES.values() for reason in rule.reasons} == set(SupportReason)
    assert all(rule.roles and rule.reasons and rule.stages for rule in RULES.values())


def test_nothing_is_done_to_a_vote_or_a_login_and_nothing_to_what_has_ended() -> None:
    of_accounts = {SupportAction.UNLOCK, SupportAction.REINSTATE}  # which outlive every case
    assert all(CaseKind.SUBMISSION not in rule.stages for rule in RULES.values())
    for action in set(SupportAction) - of_accounts:
        assert CaseKind.LOGIN not in RULES[action].stages
        for stage in ("active", "rejected", "refused", "expired", "cancelled"):
            assert not may_act(action, CaseKind.REGISTRATION, stage)
        assert not may_act(action, CaseKind.DELETION, "completed")


@pytest.mark.parametrize(
    ("action", "stages"),
    [
        (SupportAction.RESEND, {"contact_proof", "proofing", "retry"}),
        (SupportAction.LOOK_NOW, {"proofing", "review", "retry", "activation"}),
        (SupportAction.ASK_AGAIN, {"proofing", "retry"}),  # in review the provider has what there is
        (SupportAction.CANCEL, {"contact_proof", "proofing", "review", "retry", "activation"}),
        (SupportAction.ESCALATE, {"contact_proof", "proofing", "review", "retry", "activation"}),
        (SupportAction.UNLOCK, {"active"}),
        (SupportAction.REINSTATE, {"rejected"}),
    ],
)
def test_each_action_has_its_stages_of_a_registration(action: SupportAction, stages: set[str]) -> None:
    assert {stage for stage in RegistrationStage if may_act(action, CaseKind.REGISTRATION, stage)} == stages


@pytest.mark.parametrize("role", [Role.ADMIN, Role.AUDITOR])
def test_who_does_not_see_cases_has_nothing_done_to_them(role: Role) -> None:
    assert all(rule.role_of({role}) is None for rule in RULES.values())


def test_compliance_looks_and_support_acts() -> None:
    assert RULES[SupportAction.CANCEL].role_of({Role.COMPLIANCE}) is None
    assert RULES[SupportAction.CANCEL].role_of({Role.COMPLIANCE, Role.SUPPORT}) is Role.SUPPORT
    assert RULES[SupportAction.LOOK_NOW].role_of({Role.COMPLIANCE}) is Role.COMPLIANCE


def test_support_unlocks_and_a_suspension_is_lifted_by_compliance_alone() -> None:
    assert RULES[SupportAction.UNLOCK].role_of({Role.SUPPORT}) is Role.SUPPORT
    assert RULES[SupportAction.UNLOCK].role_of({Role.COMPLIANCE}) is None
    assert RULES[SupportAction.REINSTATE].role_of({Role.SUPPORT}) is None
    assert may_act(SupportAction.UNLOCK, CaseKind.LOGIN, "denied")
    assert may_act(SupportAction.UNLOCK, CaseKind.REGISTRATION, "active")
    assert not may_act(SupportAction.UNLOCK, CaseKind.REGISTRATION, "rejected")
    assert not may_act(SupportAction.REINSTATE, CaseKind.REGISTRATION, "active")


def test_an_id_is_of_a_person_a_case_and_a_key() -> None:
    made = {action_id_of(actor, case, key) for actor in ("staff:a", "staff:b") for case in (CASE, "x") for key in "12"}
    assert len(made) == 8
    assert action_id_of("staff:a", CASE, "1") in made
    assert unmasking_id_of("eu", "staff:a", "1", CASE) == unmasking_id_of("eu", "staff:a", "1", CASE)
    assert unmasking_id_of("eu", "staff:a", "1", CASE) != unmasking_id_of("eu", "staff:b", "1", CASE)


def test_only_people_unmask_and_support_never_approves() -> None:
    assert asking_role("staff:u_x", {Role.SUPPORT}) is Role.SUPPORT
    assert asking_role("client:c_x", {Role.SUPPORT}) is None
    assert asking_role("staff:u_x", {Role.ADMIN}) is None
    assert approving_role("staff:u_x", {Role.SUPPORT, Role.AUDITOR}) is None
    assert approving_role("client:c_x", {Role.COMPLIANCE}) is None
    assert approving_role("staff:u_x", {Role.ADMIN}) is Role.ADMIN


def test_what_can_be_unmasked_is_what_is_shown_masked() -> None:
    data = {"mail": "ada@example.org", "phone": "+441234567890", "document": "P1", "devices": "d", "advice": "a"}
    assert masked_contact(data).keys() == {field.value for field in MaskedField}
