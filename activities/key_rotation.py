"""New versions of key-encryption keys, live data keys re-wrapped, old versions destroyed."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from temporalio import activity

from activities.failures import to_application_error
from activities.known_cells import known
from domain.contracts.keys import (
    DestroyOldKeysInput,
    KeyVersions,
    ReplaceKeyInput,
    RetireTokenKeysInput,
    RewrapCellInput,
    Rewrapped,
    RewrapPersonalInput,
)
from domain.contracts.surveys import SurveyKeys
from domain.errors import DomainError, ErrorCode
from domain.key_ports import CatalogueKeys, CellKeys, KeyEvent, PersonalKey, PersonalKeys
from domain.key_versions import is_due
from domain.ports import KeyManagement

PAGE = 200  # personal keys in one transaction


class KeyNames(Protocol):
    """What wrapped keys say of the keys that wrap them."""

    def key_id_of(self, wrapped: bytes) -> str:
        """Return the id of the key-encryption key; empty where this is no wrapped key, which no key opens."""
        ...


class KeyRotationActivities:
    """Rotates key-encryption keys; sees none of them, and no data key."""

    def __init__(
        self,
        keys: KeyManagement,
        names: KeyNames,
        catalogue: CatalogueKeys,
        cells: Mapping[str, CellKeys],
        personal: Mapping[str, PersonalKeys],
    ) -> None:
        self._keys = keys
        self._names = names
        self._catalogue = catalogue
        self._cells = cells
        self._personal = personal

    def all(self) -> list[Callable[..., Any]]:
        """Return every activity, for a worker."""
        return [
            self.list_keys,
            self.replace_key,
            self.rewrap_catalogue,
            self.rewrap_cell,
            self.rewrap_personal,
            self.destroy_old_keys,
            self.retire_token_keys,
        ]

    @activity.defn(name="list_keys")
    async def list_keys(self, request: KeyVersions) -> KeyVersions:
        """Return the versions of a key that still exist.

        Raises:
            ApplicationError: `key_unavailable` (retried).
        """
        try:
            return KeyVersions(purpose=request.purpose, key_ids=await self._keys.key_ids(request.purpose))
        except DomainError as error:
            raise to_application_error(error) from error

    @activity.defn(name="replace_key")
    async def replace_key(self, request: ReplaceKeyInput) -> KeyVersions:
        """Make a new version where the one that was seen is still the newest. Safe to repeat: one is made, and noted.

        Raises:
            ApplicationError: `key_unavailable`, `catalogue_unavailable` (retried).
        """
        try:
            found = await self._keys.key_ids(request.purpose)
            if (found[-1] if found else "") == request.newest:
                await self._keys.rotate(request.purpose)
                found = await self._keys.key_ids(request.purpose)
            if found:
                await self._catalogue.note(found[-1], KeyEvent.MADE, request.actor)
        except DomainError as error:
            raise to_application_error(error) from error
        return KeyVersions(purpose=request.purpose, key_ids=found)

    @activity.defn(name="rewrap_catalogue")
    async def rewrap_catalogue(self) -> Rewrapped:
        """Re-wrap the keys of every live survey in the catalogue. Heartbeats; safe to repeat.

        Keys that cannot be re-wrapped stay as they are and hold up no other; the version that wraps them is kept.

        Raises:
            ApplicationError: `catalogue_unavailable` (retried).
        """
        done, failed = 0, 0
        try:
            async for before in self._catalogue.live():
                activity.heartbeat(done, failed)
                after = await self._rewrapped(before)
                if after is None:
                    failed += 1
                elif after != before:
                    done += await self._catalogue.replace(before, after)
        except DomainError as error:
            raise to_application_error(error) from error
        return Rewrapped(surveys=done, failed=failed)

    async def _rewrapped(self, keys: SurveyKeys) -> SurveyKeys | None:
        try:
            return SurveyKeys(
                survey_id=keys.survey_id,
                wrapped_ballot_key=await self._keys.rewrap(keys.wrapped_ballot_key, keys.survey_id),
                wrapped_eligibility_key=await self._keys.rewrap(keys.wrapped_eligibility_key, keys.survey_id),
            )
        except DomainError as error:
            activity.logger.error(
                "survey_keys_not_rewrapped", extra={"election_id": keys.survey_id, "code": error.code.value}
            )
            return None

    @activity.defn(name="rewrap_cell")
    async def rewrap_cell(self, request: RewrapCellInput) -> Rewrapped:
        """Give a cell the wrapped keys that the catalogue has. Heartbeats; safe to repeat.

        Raises:
            ApplicationError: `catalogue_unavailable`, `ledger_unavailable` (retried).
        """
        done = 0
        try:
            cell = known(self._cells, request.cell)
            async for keys in self._catalogue.live():
                activity.heartbeat(done)
                done += await cell.replace(keys)
        except DomainError as error:
            raise to_application_error(error) from error
        return Rewrapped(surveys=done)

    @activity.defn(name="rewrap_personal")
    async def rewrap_personal(self, request: RewrapPersonalInput) -> Rewrapped:
        """Re-wrap the personal keys of a cell's voters, page by page. Heartbeats; safe to repeat.

        What is done is done: a repeat goes on with what is left. A key that cannot be re-wrapped stays as it is, and
        the version that wraps it is kept. So does one that was made under an old version meanwhile.

        Raises:
            ApplicationError: `directory_unavailable`, `key_unavailable` (retried).
        """
        counted = activity.info().heartbeat_details
        done, failed = int(counted[0]) if counted else 0, 0
        try:
            cell = known(self._personal, request.cell, ErrorCode.DIRECTORY_UNAVAILABLE)
            *old, newest = await self._keys.key_ids(request.purpose) or ("",)
            for key_id in old:
                after = ""
                while page := await cell.under(key_id, after, PAGE):
                    wrapped = [(key, await self._personal_rewrapped(key)) for key in page]
                    failed += sum(new is None for _, new in wrapped)
                    done += await cell.replace(newest, [(key, new) for key, new in wrapped if new is not None])
                    after = page[-1].voter_id
                    activity.heartbeat(done)
        except DomainError as error:
            raise to_application_error(error) from error
        return Rewrapped(surveys=0, failed=failed, voters=done)

    async def _personal_rewrapped(self, key: PersonalKey) -> bytes | None:
        try:
            return await self._keys.rewrap(key.wrapped, key.voter_id)
        except DomainError as error:
            activity.logger.error("personal_key_not_rewrapped", extra={"code": error.code.value})
            return None

    @activity.defn(name="destroy_old_keys")
    async def destroy_old_keys(self, request: DestroyOldKeysInput) -> KeyVersions:
        """Destroy versions that nothing live needs, and return them. Safe to repeat.

        Raises:
            ApplicationError: `catalogue_unavailable`, `ledger_unavailable`, `directory_unavailable`,
                `key_unavailable` (retried).
        """
        try:
            old = await self._unneeded(request)
            for key_id in old:
                activity.heartbeat(key_id)
                # First, since nothing lists it afterwards: where the destruction fails it is tried until it is done
                await self._catalogue.note(key_id, KeyEvent.DESTROYED, request.actor)
                await self._keys.destroy(key_id)
        except DomainError as error:
            raise to_application_error(error) from error
        return KeyVersions(purpose=request.purpose, key_ids=tuple(old))

    @activity.defn(name="retire_token_keys")
    async def retire_token_keys(self, request: RetireTokenKeysInput) -> KeyVersions:
        """Destroy the old versions of a key of tokens or cookies, and return them. Safe to repeat.

        The newest one is used a minute after it was made, and nothing lives longer than hours: in the grace of days
        every process has taken it up, and all that is of the old one has expired. Without grace that is refused.

        Raises:
            ApplicationError: `key_unavailable`, `catalogue_unavailable` (retried).
        """
        try:
            *old, newest = await self._keys.key_ids(request.purpose) or ("",)
            if not old or not is_due(newest, datetime.now(UTC), timedelta(days=request.grace_days)):
                return KeyVersions(purpose=request.purpose)
            for key_id in old:
                await self._catalogue.note(key_id, KeyEvent.DESTROYED, request.actor)  # first, as with every other key
                await self._keys.destroy(key_id)
        except DomainError as error:
            raise to_application_error(error) from error
        return KeyVersions(purpose=request.purpose, key_ids=tuple(old))

    async def _unneeded(self, request: DestroyOldKeysInput) -> list[str]:
        versions = await self._keys.key_ids(request.purpose)
        if len(versions) <= 1 or await self._catalogue.publishing():
            return []
        if not is_due(versions[-1], datetime.now(UTC), timedelta(days=request.grace_days)):
            return []
        needed = set()
        async for keys in self._catalogue.live():
            needed |= {
                self._names.key_id_of(keys.wrapped_ballot_key),
                self._names.key_id_of(keys.wrapped_eligibility_key),
            }
        for cell in request.cells:
            needed |= {self._names.key_id_of(wrapped) for wrapped in await known(self._cells, cell).wrapped()}
            personal = known(self._personal, cell, ErrorCode.DIRECTORY_UNAVAILABLE)
            needed |= {key_id for key_id in versions[:-1] if await personal.uses(key_id)}
        return [key_id for key_id in versions[:-1] if key_id not in needed]
