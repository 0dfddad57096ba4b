"""What staff do with surveys, over any number of processes at once."""

from collections.abc import Awaitable, Callable
from datetime import datetime

from api.surveys.processes import NotYetError, ProcessEndedError, SurveyProcesses
from api.surveys.versions import Precondition
from domain.contracts.surveys import CorrectSurveyInput, ExtendSurvey, OpenedSurvey, SteerIntake, SurveyStage
from domain.errors import DomainError, ErrorCode
from domain.ids import SURVEY_ID, new_survey_id
from domain.survey_drafts import CatalogueEntry, SurveyDraft, amended, new_entry
from domain.survey_ports import SurveyCatalogue

# Without If-Match the last writer wins; each try that is lost means that somebody else's change was made.
_TRIES = 100
_RETRY_AFTER_S = 2
PUBLIC_STAGES = (SurveyStage.PUBLISHED, SurveyStage.FINISHED)


class SurveyManagement:
    """Drafts are changed in the catalogue; what is published is changed by its workflow alone."""

    def __init__(self, catalogue: SurveyCatalogue, processes: SurveyProcesses) -> None:
        self._catalogue = catalogue
        self._processes = processes

    async def get(self, survey_id: str) -> CatalogueEntry:
        """Return a survey of any stage. Raises DomainError `survey_not_found`."""
        entry = await self._catalogue.get(survey_id) if SURVEY_ID.fullmatch(survey_id) else None
        if entry is None:
            raise DomainError(ErrorCode.SURVEY_NOT_FOUND)
        return entry

    async def get_public(self, survey_id: str) -> CatalogueEntry:
        """Return a survey that is or was open to voters. Raises DomainError `survey_not_found`."""
        entry = await self.get(survey_id)
        if entry.stage not in PUBLIC_STAGES:
            raise DomainError(ErrorCode.SURVEY_NOT_FOUND)
        return entry

    async def create(self, draft: SurveyDraft, actor: str) -> CatalogueEntry:
        """Add a draft. Raises DomainError `survey_invalid`."""
        entry = new_entry(new_survey_id(), draft)
        await self._catalogue.create(entry, actor)
        return entry

    async def update(
        self, survey_id: str, draft: SurveyDraft, actor: str, precondition: Precondition
    ) -> CatalogueEntry:
        """Change a survey as a whole: anything of a draft, texts and images of a published one.

        Raises:
            DomainError: `survey_not_found`, `survey_invalid`, `survey_frozen`, `precondition_failed`,
                `survey_publishing`.
        """
        for _ in range(_TRIES):
            before = await self.get(survey_id)
            precondition.require([before.survey.version])
            after = amended(before, draft)
            if before.stage is SurveyStage.DRAFT:
                if await self._catalogue.update_draft(before, after, actor):
                    return after
            elif await self._correct(before, after, actor):
                return await self.get(survey_id)
        raise DomainError(ErrorCode.PRECONDITION_FAILED, "others change this survey without a pause")

    async def delete(self, survey_id: str, actor: str, precondition: Precondition) -> None:
        """Delete a draft.

        Raises:
            DomainError: `survey_not_found`, `survey_frozen` for any other stage, `precondition_failed`.
        """
        for _ in range(_TRIES):
            before = await self.get(survey_id)
            precondition.require([before.survey.version])
            if before.stage is not SurveyStage.DRAFT:
                raise DomainError(ErrorCode.SURVEY_FROZEN, "only a draft can be deleted")
            if await self._catalogue.delete_draft(before, actor):
                return
        raise DomainError(ErrorCode.PRECONDITION_FAILED, "others change this survey without a pause")

    async def publish(self, survey_id: str, actor: str, precondition: Precondition) -> CatalogueEntry:
        """Open a survey in every cell; asked again, it is as it is.

        Raises:
            DomainError: `survey_not_found`, `survey_invalid`, `precondition_failed`; `survey_publishing` while a
                cell has not got it, `workflows_unavailable`.
        """
        before = await self.get(survey_id)
        precondition.require([before.survey.version, before.published_from])
        if before.stage in PUBLIC_STAGES:
            return before
        is_version_meant = precondition.names_versions and before.stage is SurveyStage.DRAFT
        version = before.survey.version if before.published_from is None else before.published_from
        return await self._steer(
            survey_id,
            PUBLIC_STAGES,
            lambda: self._processes.publish(survey_id, actor, version, is_version_meant=is_version_meant),
        )

    async def finish(self, survey_id: str, actor: str, precondition: Precondition) -> CatalogueEntry:
        """Close a survey in every cell; asked again, it is as it is.

        Raises:
            DomainError: `survey_not_found`, `survey_not_open` for a draft, `precondition_failed`;
                `survey_publishing` while a cell has not got it, `workflows_unavailable`.
        """
        before = await self.get(survey_id)
        precondition.require([before.survey.version, before.finished_from])
        if before.stage is SurveyStage.FINISHED:
            return before
        if before.stage is SurveyStage.DRAFT:
            raise DomainError(ErrorCode.SURVEY_NOT_OPEN, "the survey is not published")
        seen = before.survey.version if precondition.names_versions else None
        opened = await self._opened(before)
        ended = (SurveyStage.FINISHED,)
        return await self._steer(survey_id, ended, lambda: self._processes.finish(survey_id, actor, seen, opened))

    async def set_intake(
        self, survey_id: str, actor: str, precondition: Precondition, *, paused: bool
    ) -> CatalogueEntry:
        """Take no votes for the moment, or take them again, in every cell; asked again, it is as it is.

        Raises:
            DomainError: `survey_not_found`, `survey_not_open`, `survey_closed`, `precondition_failed`;
                `survey_publishing` while a cell has not got it, `workflows_unavailable`.
        """
        before, seen = await self._steerable(survey_id, precondition)
        request = SteerIntake(actor=actor, paused=paused, expected_version=seen)
        opened = await self._opened(before)
        return await self._changed(survey_id, lambda: self._processes.set_intake(survey_id, request, opened))

    async def extend(
        self, survey_id: str, actor: str, precondition: Precondition, finish_at: datetime
    ) -> CatalogueEntry:
        """Move the end of an open survey to a later instant, in every cell; asked again, it is as it is.

        Raises:
            DomainError: as `set_intake`; `survey_invalid` where it is not later.
        """
        before, seen = await self._steerable(survey_id, precondition)
        request = ExtendSurvey(actor=actor, finish_at=finish_at, expected_version=seen)
        opened = await self._opened(before)
        return await self._changed(survey_id, lambda: self._processes.extend(survey_id, request, opened))

    async def _steerable(self, survey_id: str, precondition: Precondition) -> tuple[CatalogueEntry, int | None]:
        before = await self.get(survey_id)
        precondition.require([before.survey.version])
        if before.stage is SurveyStage.FINISHED:
            raise DomainError(ErrorCode.SURVEY_CLOSED)
        if before.stage is not SurveyStage.PUBLISHED:
            raise DomainError(ErrorCode.SURVEY_NOT_OPEN, "the survey is not published")
        return before, before.survey.version if precondition.names_versions else None

    async def _changed(self, survey_id: str, step: Callable[[], Awaitable[None]]) -> CatalogueEntry:
        try:
            await step()
        except NotYetError as error:
            raise DomainError(
                ErrorCode.SURVEY_PUBLISHING, "it goes on by itself", retry_after_s=_RETRY_AFTER_S
            ) from error
        except ProcessEndedError as error:
            raise DomainError(ErrorCode.SURVEY_CLOSED) from error
        return await self.get(survey_id)

    async def _correct(self, before: CatalogueEntry, after: CatalogueEntry, actor: str) -> bool:
        request = CorrectSurveyInput(survey=after.survey, actor=actor, expected_version=before.survey.version)
        try:
            await self._processes.correct(request, await self._opened(before))
        except NotYetError as error:
            raise DomainError(ErrorCode.SURVEY_PUBLISHING, "", retry_after_s=_RETRY_AFTER_S) from error
        except ProcessEndedError as error:
            raise DomainError(ErrorCode.SURVEY_FROZEN, "the survey is finished") from error
        except DomainError as error:
            if error.code is ErrorCode.PRECONDITION_FAILED:
                return False
            raise
        return True

    async def _opened(self, entry: CatalogueEntry) -> OpenedSurvey | None:
        keys = await self._catalogue.keys(entry.survey.id) if entry.stage is SurveyStage.PUBLISHED else None
        return None if keys is None else OpenedSurvey(survey=entry.survey, keys=keys)

    async def _steer(
        self, survey_id: str, wanted: tuple[SurveyStage, ...], step: Callable[[], Awaitable[None]]
    ) -> CatalogueEntry:
        try:
            await step()
            late = False
        except NotYetError:
            late = True
        except ProcessEndedError:
            late = False
        entry = await self.get(survey_id)
        if entry.stage in wanted:
            return entry
        if late and entry.stage is SurveyStage.DRAFT:
            raise DomainError(ErrorCode.WORKFLOWS_UNAVAILABLE, "", retry_after_s=_RETRY_AFTER_S)
        raise DomainError(ErrorCode.SURVEY_PUBLISHING, "it goes on by itself", retry_after_s=_RETRY_AFTER_S)
