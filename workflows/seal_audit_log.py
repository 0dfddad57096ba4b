"""One step of an audit log: entries get their places, go into tiles, and the tree over them is signed."""

from temporalio import workflow

from workflows.policies import SEAL

with workflow.unsafe.imports_passed_through():
    from activities.audit_sealing import AuditSealingActivities
    from domain.audit_log import tile_in_turn
    from domain.contracts.audit import (
        AuditTreeHead,
        CompareAuditLogInput,
        ComparedAuditLog,
        SealAuditLogInput,
        SealedAuditLog,
        SequencedAuditLog,
    )
    from domain.merkle_tiles import TILE_WIDTH


@workflow.defn(name="SealAuditLog")
class SealAuditLogWorkflow:
    """Seals what is there, slice by slice, then reads a piece of what was sealed before again: in time the whole log.

    Killed anywhere, the next attempt, or the next minute's execution, goes on: each step looks at what is kept. What
    contradicts a signed tree head ends it with a fault, after everything that can be signed is.
    """

    @workflow.run
    async def run(self, request: SealAuditLogInput) -> SealedAuditLog:
        """Return how far the log is sealed.

        Raises:
            ApplicationError: `audit_log_contradicted`; entries or tiles are not what was signed.
        """
        sequenced: SequencedAuditLog = await workflow.execute_activity_method(
            AuditSealingActivities.sequence_audit_log, request, **SEAL
        )
        head = await self._seal(sequenced)
        while head.size < sequenced.size and not workflow.info().is_continue_as_new_suggested():
            head = await self._seal(sequenced)  # what a history has no room for is left to the next minute's
        return SealedAuditLog(
            log=head.log, size=head.size, root=head.root, compared=await self._compare(request, head.size)
        )

    @staticmethod
    async def _seal(sequenced: SequencedAuditLog) -> AuditTreeHead:
        head: AuditTreeHead = await workflow.execute_activity_method(
            AuditSealingActivities.write_audit_tiles, sequenced, **SEAL
        )
        if not head.is_signed:
            await workflow.execute_activity_method(AuditSealingActivities.sign_audit_head, head, **SEAL)
        return head

    @staticmethod
    async def _compare(request: SealAuditLogInput, size: int) -> int:
        tiles, step = -(-size // TILE_WIDTH), request.compare_tiles
        if not tiles or not step:
            return 0
        compared: ComparedAuditLog = await workflow.execute_activity_method(
            AuditSealingActivities.compare_audit_log,
            CompareAuditLogInput(
                log=request.log, size=size, first=tile_in_turn(workflow.now(), tiles, step), tiles=step
            ),
            **SEAL,
        )
        return compared.entries
