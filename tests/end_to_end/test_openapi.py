"""The committed OpenAPI documents are what the services say, and whatever comes in, they keep to them."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_asyncio
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from domain.tokens import Role
from tests.end_to_end.house import House
from tests.end_to_end.openapi_documents import RECORD, SERVICES, commit, committed

EXAMPLES = 8
MANY_EXAMPLES = 200
TIMEOUT_S = 30
PROVED = {  # take a key's proof of this very body and no token; tests/api/auth has the keys
    "POST /v1/auth/token",
    "POST /v1/auth/logins",
    "POST /v1/auth/logins/{attempt_id}/step-up",
    "POST /v1/auth/logins/{attempt_id}/step-up-code",
    "POST /v1/auth/logins/{attempt_id}/passkey-options",
}
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.mark.parametrize("service", SERVICES)
async def test_the_committed_document_is_what_the_service_says(house: House, service: str) -> None:
    said = (await house.clients[service].get("/openapi.json")).json()
    said.pop("servers", None)  # where it runs is the deployment's
    if os.environ.get(RECORD):
        commit(service, said)
    assert committed(service) == said, f"{RECORD}=1 writes docs/openapi anew"


def operations() -> Iterator[Any]:
    """Every operation of every committed document."""
    for service in SERVICES:
        document = committed(service)
        if not document:
            continue
        schema = schemathesis.openapi.from_dict(document)
        for found in schema.get_all_operations():
            assert isinstance(found, Ok), found
            operation = found.ok()
            yield pytest.param(service, operation, id=f"{service} {operation.label}")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def callers(house: House) -> dict[str, Any]:
    """Ids that exist and tokens that are good for them; the fuzzed surveys are nobody else's."""
    survey = await house.open_survey("Fuzzed")
    managed = await house.open_survey("Managed")  # it will be finished
    hidden = await house.open_survey("Fuzzed and hidden", visibility="staff")
    draft = await house.draft_survey("Fuzzed draft")
    _, access = await house.voter()
    staff = house.admin()["authorization"]
    return {
        "surveys": (staff, [managed.id, draft["id"]]),
        "eligibility": (f"Bearer {access}", [survey.id]),
        "votes": (f"Bearer {house.token(survey)}", [survey.id]),
        "results": (staff, [survey.id, hidden.id]),
        "streams": ("", [hidden.id]),  # a live one would never end
        "auth": (f"Bearer {access}", []),
        "webhooks": ("", []),
        "support": (house.admin(Role.SUPPORT)["authorization"], []),
        "compliance": (house.admin(Role.COMPLIANCE)["authorization"], []),
    }


def fuzz(
    house: House, operation: Any, service: str, good: str, known: list[str], *, examples: int = EXAMPLES
) -> set[int]:
    """Send good and bad requests of one operation; return the statuses of the answers, all as documented."""
    base_url, seen = house.supervisor.url(service), set()
    names = [name for name in ("survey_id", "id") if name in {found.name for found in operation.path_parameters}]

    @given(
        case=operation.as_strategy(),
        token=st.sampled_from([good, good, "", "Bearer nonsense", "Basic YTpi"]),
        survey=st.sampled_from([None, *known]),
    )
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,  # the same requests every time: what fails once fails again
        suppress_health_check=list(HealthCheck),
    )
    def send(case: Any, token: str, survey: str | None) -> None:
        headers = {"authorization": token} if token else {}
        case.headers = {k: v for k, v in (case.headers or {}).items() if k.lower() != "authorization"}
        if survey is not None and names:
            case.path_parameters = {**(case.path_parameters or {}), names[0]: survey}
        try:
            answer = case.call(base_url=base_url, headers=headers, timeout=TIMEOUT_S)
        except requests.exceptions.InvalidHeader:  # no client could send this
            return
        case.validate_response(answer, checks=CHECKS)
        seen.add(answer.status_code)

    send()
    return seen


@pytest.mark.parametrize("examples", [EXAMPLES, pytest.param(MANY_EXAMPLES, marks=pytest.mark.long)])
@pytest.mark.parametrize(("service", "operation"), list(operations()))
def test_whatever_comes_in_the_answer_is_one_of_the_document(
    house: House, callers: dict[str, Any], service: str, operation: Any, examples: int
) -> None:
    seen = fuzz(house, operation, service, *callers[service], examples=examples)
    assert seen
    assert max(seen) < 500
    assert seen != {401} or operation.label in PROVED  # it came further than the door


@pytest.mark.parametrize("missing", ["status", "field"])
def test_an_answer_that_is_not_in_the_document_is_noticed(house: House, callers: dict[str, Any], missing: str) -> None:
    document = committed("results")
    answers = document["paths"]["/v1/surveys/{survey_id}/results"]["get"]["responses"]
    if missing == "status":
        del answers["404"]
    else:
        document["components"]["schemas"]["Problem"]["required"].append("something")
    schema = schemathesis.openapi.from_dict(document)
    with pytest.raises(FailureGroup):
        fuzz(house, schema["/v1/surveys/{survey_id}/results"]["GET"], "results", *callers["results"])


def test_the_answers_to_votes_are_those_of_the_document(house: House, callers: dict[str, Any]) -> None:
    token, (survey_id,) = callers["votes"]
    schema = schemathesis.openapi.from_dict(committed("votes"))
    survey = requests.get(f"{house.supervisor.url('surveys')}/v1/surveys/{survey_id}", timeout=TIMEOUT_S).json()
    question = survey["questions"][0]
    chosen = {"question": question["id"], "options": [question["options"][0]["id"]]}
    statuses = []
    for path, parameters in (("/v1/surveys/{id}/vote", {"id": survey_id}), ("/vote", {})):
        case = schema[path]["POST"].Case(
            path_parameters=parameters, body={"answers": [chosen]}, media_type="application/json"
        )
        answer = case.call(base_url=house.supervisor.url("votes"), headers={"authorization": token}, timeout=TIMEOUT_S)
        case.validate_response(answer, checks=CHECKS)
        statuses.append(answer.status_code)
    assert statuses[0] in {201, 202}
    assert statuses[1] == 409


def test_there_are_operations_of_every_service() -> None:
    assert {found.values[0] for found in operations()} == set(SERVICES)
