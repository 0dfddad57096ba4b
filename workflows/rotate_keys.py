"""Key-encryption keys get new versions, live data keys follow, and what nobody needs any more is destroyed.

That is what makes the destruction of a survey's keys complete: a backup has them wrapped under a version that is gone.
Keys that sign access tokens and seal cookies are replaced on the way: whoever has got hold of one can use it for a
month at most.
"""

from datetime import timedelta

from temporalio import workflow

from workflows.policies import COMMIT, LONG_WORK

with workflow.unsafe.imports_passed_through():
    from activities.key_rotation import KeyRotationActivities
    from domain.contracts.keys import (
        DestroyOldKeysInput,
        KeyVersions,
        ReplaceKeyInput,
        RetireTokenKeysInput,
        RewrapCellInput,
        Rewrapped,
        RewrapPersonalInput,
        RotatedKeys,
        RotateKeysInput,
    )
    from domain.key_versions import is_due


@workflow.defn(name="RotateKeys")
class RotateKeysWorkflow:
    """Rotates what is due; a cell that is away is waited for, since its copies need the old version until then."""

    @workflow.run
    async def run(self, request: RotateKeysInput) -> RotatedKeys:
        """Return what was made, re-wrapped and destroyed."""
        made: list[str] = []
        for purpose in request.purposes:
            made += await self._replace_where_due(purpose, request.age_days, request.actor)
        for purpose in request.hash_purposes:
            made += await self._replace_where_due(purpose, request.hash_age_days, request.actor)
        for purpose in request.token_purposes:
            made += await self._replace_where_due(purpose, request.token_age_days, request.actor)
        rewrapped: Rewrapped = await workflow.execute_activity_method(
            KeyRotationActivities.rewrap_catalogue, **LONG_WORK
        )
        for cell in request.cells:
            await workflow.execute_activity_method(
                KeyRotationActivities.rewrap_cell, RewrapCellInput(cell=cell), **LONG_WORK
            )
        personal = await self._rewrap_personal(request)
        destroyed: list[str] = []
        for purpose in request.purposes:
            gone: KeyVersions = await workflow.execute_activity_method(
                KeyRotationActivities.destroy_old_keys,
                DestroyOldKeysInput(
                    purpose=purpose, cells=request.cells, grace_days=request.grace_days, actor=request.actor
                ),
                **LONG_WORK,
            )
            destroyed += gone.key_ids
        for purpose in request.token_purposes:
            retired: KeyVersions = await workflow.execute_activity_method(
                KeyRotationActivities.retire_token_keys,
                RetireTokenKeysInput(purpose=purpose, grace_days=request.grace_days, actor=request.actor),
                **COMMIT,
            )
            destroyed += retired.key_ids
        return RotatedKeys(
            made=tuple(made),
            destroyed=tuple(destroyed),
            rewrapped=rewrapped.surveys,
            failed=rewrapped.failed + personal.failed,
            voters=personal.voters,
        )

    @staticmethod
    async def _rewrap_personal(request: RotateKeysInput) -> Rewrapped:
        voters, failed = 0, 0
        if request.personal_purpose and request.settle_s:
            await workflow.sleep(timedelta(seconds=request.settle_s))
        for cell in request.cells if request.personal_purpose else ():
            done: Rewrapped = await workflow.execute_activity_method(
                KeyRotationActivities.rewrap_personal,
                RewrapPersonalInput(cell=cell, purpose=request.personal_purpose),
                **LONG_WORK,
            )
            voters, failed = voters + done.voters, failed + done.failed
        return Rewrapped(surveys=0, failed=failed, voters=voters)

    @staticmethod
    async def _replace_where_due(purpose: str, age_days: int, actor: str) -> list[str]:
        found: KeyVersions = await workflow.execute_activity_method(
            KeyRotationActivities.list_keys, KeyVersions(purpose=purpose), **COMMIT
        )
        newest = found.key_ids[-1] if found.key_ids else ""
        if newest and not is_due(newest, workflow.now(), timedelta(days=age_days)):
            return []
        asked = ReplaceKeyInput(purpose=purpose, newest=newest, actor=actor)
        replaced: KeyVersions = await workflow.execute_activity_method(
            KeyRotationActivities.replace_key, asked, **COMMIT
        )
        return [replaced.key_ids[-1]]
