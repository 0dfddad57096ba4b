"""The end of a survey: how its certification stands, its certificate, and its published ballots."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Response

from api.http.access import STAFF_RESPONSES, Principal
from api.http.application import problem_responses
from api.http.held_places import holding
from api.http.limits import Limits, limited
from api.surveys.certification_bodies import CertificateKeys, CertificationBody, PublishedBallotsBody
from api.surveys.files import file_response
from api.surveys.management import SurveyManagement
from api.surveys.processes import NotYetError, SurveyProcesses
from domain.certification_ports import CertificationCatalogue
from domain.contracts.certification import CertificationState, SignedCertificate
from domain.contracts.surveys import OpenedSurvey, SurveyStage, Visibility
from domain.errors import DomainError, ErrorCode
from domain.limits import DOWNLOAD_HELD, SURVEY_ADDRESS, SURVEY_NETWORK
from domain.survey_ports import ObjectStore, SurveyCatalogue

_CACHED = "public, max-age=3600, stale-if-error=86400"  # it never changes
_PRIVATE = "private, no-store"
_RETRY_AFTER_S = 2
_NOT_THERE = (ErrorCode.SURVEY_NOT_FOUND, ErrorCode.SURVEY_NOT_CERTIFIED, ErrorCode.CATALOGUE_UNAVAILABLE)
_FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {"schema": {"type": "object"}}}, "description": "The certificate."}
}
_KEY_LINES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "One key per line."}
}
_LINES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}, "description": "One ballot per line."}
}
FileNumber = Annotated[int, Path(ge=1, le=1_000_000)]


@dataclass(frozen=True, slots=True)
class Certifications:
    """What the routes work with; `keys` are public keys of certificates by id, `log_keys` lines of those of logs."""

    catalogue: CertificationCatalogue
    objects: ObjectStore
    keys: Callable[[], Mapping[str, bytes]]
    log_keys: Callable[[], Sequence[str]] = tuple

    async def state(self, survey_id: str) -> CertificationState:
        """Return how a certification stands. Raises DomainError `survey_not_certified` before the survey's end."""
        found = await self.catalogue.state(survey_id)
        if found is None:
            raise DomainError(ErrorCode.SURVEY_NOT_CERTIFIED, "the survey has not ended")
        return found

    async def certified(self, survey_id: str) -> tuple[CertificationState, SignedCertificate]:
        """Return a certified survey's state and certificate. Raises DomainError `survey_not_certified`."""
        found = await self.state(survey_id)
        if found.certificate is None:
            raise DomainError(ErrorCode.SURVEY_NOT_CERTIFIED, f"the certification is {found.stage}")
        return found, found.certificate

    async def certificate(self, survey_id: str, caching: str) -> Response:
        """Answer with the file of a certificate."""
        _, certificate = await self.certified(survey_id)
        return await file_response(
            certificate.stored,
            self.objects,
            media_type="application/json",
            filename=f"{certificate.certificate_id}.json",
            caching=caching,
        )


def certification_staff_routes(
    management: SurveyManagement,
    catalogue: SurveyCatalogue,
    processes: SurveyProcesses,
    certifications: Certifications,
    admin: Callable[..., Awaitable[Principal]],
) -> APIRouter:
    """Return the routes for staff; `admin` lets in who may manage surveys."""
    router = APIRouter(prefix="/v1/internal/surveys", tags=["Certification"], responses={**STAFF_RESPONSES})
    Admin = Annotated[Principal, Depends(admin)]  # noqa: N806 - a type

    @router.get("/{survey_id}/certification", summary="Read how it stands", responses=problem_responses(*_NOT_THERE))
    async def read_certification(survey_id: str, _staff: Admin) -> CertificationBody:
        """Read the stage of the certification, and what keeps the survey from it."""
        await management.get(survey_id)
        return CertificationBody.of(await certifications.state(survey_id))

    @router.put(
        "/{survey_id}/certify",
        summary="Try again to certify",
        responses=problem_responses(
            *_NOT_THERE,
            ErrorCode.SURVEY_NOT_OPEN,
            ErrorCode.KEY_DESTROYED,
            ErrorCode.SURVEY_PUBLISHING,
            ErrorCode.WORKFLOWS_UNAVAILABLE,
        ),
    )
    async def certify_survey(survey_id: str, staff: Admin) -> CertificationBody:
        """Try again after differences were found and repaired; anything else goes on by itself. Nothing is reopened."""
        entry = await management.get(survey_id)
        if entry.stage is not SurveyStage.FINISHED:
            raise DomainError(ErrorCode.SURVEY_NOT_OPEN, "the survey has not ended")
        before = await certifications.catalogue.state(survey_id)
        if before is None or before.certificate is None:
            keys = await catalogue.keys(survey_id)
            assert keys is not None
            opened = OpenedSurvey(survey=entry.survey, keys=keys)
            try:
                await processes.certify(entry.survey, staff.actor, opened, before)
            except NotYetError as error:
                raise DomainError(ErrorCode.SURVEY_PUBLISHING, "", retry_after_s=_RETRY_AFTER_S) from error
        return CertificationBody.of(await certifications.state(survey_id))

    @router.get(
        "/{survey_id}/certificate",
        summary="Read the certificate, whatever the survey's visibility",
        response_class=Response,
        responses={**_FILE, **problem_responses(*_NOT_THERE, ErrorCode.OBJECTS_UNAVAILABLE)},
    )
    async def read_certificate_as_staff(survey_id: str, _staff: Admin) -> Response:
        """Answer with the signed certificate."""
        await management.get(survey_id)
        return await certifications.certificate(survey_id, _PRIVATE)

    return router


def certification_public_routes(
    management: SurveyManagement, certifications: Certifications, limits: Limits
) -> APIRouter:
    """Return the routes for everyone; what only staff may see stays with them."""
    reading = limited(limits.route(address=SURVEY_ADDRESS, network=SURVEY_NETWORK))
    router = APIRouter(
        prefix="/v1",
        tags=["Certification"],
        dependencies=[Depends(reading)],
        responses=problem_responses(ErrorCode.RATE_LIMITED),
    )
    answers = problem_responses(*_NOT_THERE, ErrorCode.RESULTS_NOT_VISIBLE, ErrorCode.OBJECTS_UNAVAILABLE)

    async def require_visible(survey_id: str) -> None:
        entry = await management.get_public(survey_id)
        if entry.survey.visibility is Visibility.STAFF:
            raise DomainError(ErrorCode.RESULTS_NOT_VISIBLE)

    @router.get("/certificate-keys", summary="Read the keys of certificates")
    async def read_certificate_keys(response: Response) -> CertificateKeys:
        """Read every public key that certificates were or are signed with."""
        response.headers["Cache-Control"] = "public, max-age=60"
        return CertificateKeys.of(certifications.keys())

    @router.get("/log-keys", summary="Read the keys of audit logs", response_class=Response, responses={**_KEY_LINES})
    async def read_log_keys() -> Response:
        """Read the public keys that check tree heads, as tools for C2SP signed notes take them."""
        lines = "".join(f"{line}\n" for line in certifications.log_keys())
        return Response(lines, media_type="text/plain", headers={"Cache-Control": "public, max-age=60"})

    @router.get(
        "/surveys/{survey_id}/certificate",
        summary="Read the certificate",
        response_class=Response,
        responses={**_FILE, **answers},
    )
    async def read_certificate(survey_id: str) -> Response:
        """Answer with the signed certificate: totals, counts, instants, roots and digests."""
        await require_visible(survey_id)
        return await certifications.certificate(survey_id, _CACHED)

    @router.get("/surveys/{survey_id}/ballots", summary="List the files of published ballots", responses=answers)
    async def list_ballots(survey_id: str, response: Response) -> PublishedBallotsBody:
        """List the files; the certificate has their digests."""
        await require_visible(survey_id)
        state, _ = await certifications.certified(survey_id)
        response.headers["Cache-Control"] = _CACHED
        return PublishedBallotsBody.of(state)

    @router.get(
        "/surveys/{survey_id}/ballots/{number}",
        summary="Read a file of published ballots",
        response_class=Response,
        dependencies=[Depends(holding(limits, DOWNLOAD_HELD))],
        responses={
            **_LINES,
            **problem_responses(
                *_NOT_THERE, ErrorCode.NOT_FOUND, ErrorCode.RESULTS_NOT_VISIBLE, ErrorCode.OBJECTS_UNAVAILABLE
            ),
        },
    )
    async def read_ballots(survey_id: str, number: FileNumber) -> Response:
        """Answer with opened ballots, region and choices, one line of JSON each."""
        await require_visible(survey_id)
        state, _ = await certifications.certified(survey_id)
        if number > len(state.files):
            raise DomainError(ErrorCode.NOT_FOUND)
        stored = state.files[number - 1].stored
        return await file_response(
            stored,
            certifications.objects,
            media_type="application/x-ndjson",
            filename=f"{survey_id}_ballots_{number:05}.jsonl",
            caching=_CACHED,
        )

    return router
