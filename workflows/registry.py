"""Every workflow there is, for replaying stored histories."""

from workflows.archive_histories import ArchiveHistoriesWorkflow
from workflows.assess_login import AssessLoginWorkflow
from workflows.break_glass import BreakGlassWorkflow
from workflows.delete_account import DeleteAccountWorkflow
from workflows.export_results import ExportResultsWorkflow
from workflows.reconcile_survey import ReconcileSurveyWorkflow
from workflows.recover_account import RecoverAccountWorkflow
from workflows.register_voter import RegisterVoterWorkflow
from workflows.rejudge_decisions import RejudgeDecisionsWorkflow
from workflows.replay_executions import ReplayExecutionsWorkflow
from workflows.rotate_keys import RotateKeysWorkflow
from workflows.run_survey import RunSurveyWorkflow
from workflows.seal_audit_log import SealAuditLogWorkflow
from workflows.submit_votes import SubmitVotesWorkflow
from workflows.unlock_account import UnlockAccountWorkflow
from workflows.verify_identity import VerifyIdentityWorkflow

WORKFLOWS: tuple[type, ...] = (
    ArchiveHistoriesWorkflow,
    AssessLoginWorkflow,
    BreakGlassWorkflow,
    DeleteAccountWorkflow,
    ExportResultsWorkflow,
    ReconcileSurveyWorkflow,
    RecoverAccountWorkflow,
    RegisterVoterWorkflow,
    RejudgeDecisionsWorkflow,
    ReplayExecutionsWorkflow,
    RotateKeysWorkflow,
    RunSurveyWorkflow,
    SealAuditLogWorkflow,
    SubmitVotesWorkflow,
    UnlockAccountWorkflow,
    VerifyIdentityWorkflow,
)
