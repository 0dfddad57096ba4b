"""What each field of each contract says of somebody: who may see it follows from that (`domain/masking.py`).

Every field of every contract stands here; what does not is shown to nobody. A field that holds other contracts is
`plain` where they are looked into field by field, and anything else where they are not.

What is made of a field is no more open than it. So the reasons of a login's verdict are personal: they name what speaks
against a device and where somebody was, and support goes by the counts beside them. The reasons of a registration are
plain, with all that they name, the cell of another account too: its person is told them, and asks support about them.
"""

from collections.abc import Mapping
from enum import StrEnum


class FieldClass(StrEnum):
    """What a field says."""

    PLAIN = "plain"  # ids, codes, stages, counts, instants, references of vendors: nothing of who somebody is
    PERSONAL = "personal"  # something about a person, without naming them
    HIDDEN = "hidden"  # tokens, keys, hashes, ciphertexts; and what is of other voters of the same batch
    CHOICE = "choice"  # what was chosen, also as counts of a few


def fields(*, plain: str = "", personal: str = "", hidden: str = "", choice: str = "") -> Mapping[str, FieldClass]:
    """Return the classes of a contract's fields, by name."""
    named = {
        FieldClass.PLAIN: plain,
        FieldClass.PERSONAL: personal,
        FieldClass.HIDDEN: hidden,
        FieldClass.CHOICE: choice,
    }
    return {name: kind for kind, names in named.items() for name in names.split()}


FIELD_CLASSES: Mapping[str, Mapping[str, FieldClass]] = {
    # audit
    "SealAuditLogInput": fields(plain="log compare_tiles"),
    "SequencedAuditLog": fields(plain="log size"),
    "AuditTreeHead": fields(plain="log size root is_signed"),
    "CompareAuditLogInput": fields(plain="log size first tiles"),
    "ComparedAuditLog": fields(plain="log entries"),
    "SealedAuditLog": fields(plain="log size root compared"),
    # archive
    "ArchiveHistoriesInput": fields(plain="cell after archived left_out"),
    "ArchivedHistories": fields(plain="cell archived left_out complete_until"),
    "PlanArchiveInput": fields(plain="cell after"),
    "ClosedExecution": fields(plain="workflow_id run_id workflow_type started_at closed_at size_bytes"),
    "HistoryPack": fields(plain="cell executions"),
    "ArchivePlan": fields(plain="cell until packs is_complete is_last"),
    "LeftOut": fields(plain="execution why"),
    "WrittenPack": fields(plain="cell stored left_out"),
    "NotedPack": fields(plain="cell archived left_out"),
    "ArchiveMark": fields(plain="cell complete_until"),
    # accounts
    "RecoverAccountInput": fields(plain="request_id cell", hidden="mail"),
    "RecoveredAccount": fields(plain="request_id end"),
    "FoundAccount": fields(plain="voter_id at_provider"),
    "SendLinkInput": fields(plain="request_id cell voter_id asked_at again"),
    "RecoveryRequest": fields(plain="request_id"),
    "LinkUse": fields(plain="used"),
    "DeleteAccountInput": fields(plain="deletion_id voter_id cell cells"),
    "DeletionStep": fields(plain="deletion_id voter_id devices_erased"),
    "EndedRegistration": fields(plain="over"),
    "ErasableCase": fields(plain="registration_id case_no provider reference"),
    "ErasableCases": fields(plain="cases"),
    "ErasedDevices": fields(plain="erased kept"),
    "ReleaseClaimsInput": fields(plain="claim_cell voter_id"),
    "DeletedAccount": fields(
        plain="deletion_id completed_at sessions_ended cases_erased devices_erased credentials_removed",
    ),
    # certification
    "CertificationDifference": fields(plain="cell kind row detail"),
    "CellSurveyReference": fields(plain="cell survey_id"),
    "DrainedCell": fields(plain="cell closed_at gateways never_started differences"),
    "SealedCell": fields(plain="cell closed_at sealed_at never_started"),
    "RecountCellInput": fields(plain="cell survey"),
    "RecountProgress": fields(plain="ballots differences", hidden="after peaks", choice="regions"),
    "CellRecount": fields(
        plain="cell participations ballots batches participations_root ballots_root batches_root differences",
        choice="regions",
    ),
    "PublishBallotsInput": fields(plain="survey cells ballots"),
    "BallotFile": fields(plain="stored ballots"),
    "PublishedBallots": fields(plain="files ballots root", choice="regions"),
    "ReconciledSurvey": fields(plain="workflow_id at"),
    "CertifySurveyInput": fields(plain="survey sealed recounts published reconciled certified_at"),
    "SignedCertificate": fields(plain="survey_id certificate_id key_id certified_at retained_until stored"),
    "InstallCertificateInput": fields(plain="cell survey_id certificate_id certified_at", choice="regions"),
    "DestroySurveyKeysInput": fields(plain="survey_id at"),
    "CertificationState": fields(
        plain="survey_id stage revision attempt sealed differences files certificate keys_destroyed_at",
    ),
    "RequestCertification": fields(plain="actor"),
    "NoteCertificationInput": fields(plain="state actor"),
    # exports
    "ExportRequest": fields(plain="survey_id export_id actor format region option"),
    "ExportSnapshot": fields(plain="survey as_of missing_cells", choice="regions"),
    "StoredObject": fields(plain="name size_bytes sha256"),
    "ExportFile": fields(plain="survey_id export_id stored as_of missing_cells"),
    "CancelledExport": fields(plain="survey_id export_id actor role"),
    "ExportState": fields(plain="request requested_at file finished_at cancelled_at"),
    # keys
    "RotateKeysInput": fields(
        plain="purposes cells age_days grace_days personal_purpose settle_s hash_purposes hash_age_days "
        "token_purposes token_age_days actor",
    ),
    "KeyVersions": fields(plain="purpose key_ids"),
    "ReplaceKeyInput": fields(plain="purpose newest actor"),
    "RewrapCellInput": fields(plain="cell"),
    "RewrapPersonalInput": fields(plain="cell purpose"),
    "Rewrapped": fields(plain="surveys failed voters"),
    "DestroyOldKeysInput": fields(plain="purpose cells grace_days actor"),
    "RetireTokenKeysInput": fields(plain="purpose grace_days actor"),
    "RotatedKeys": fields(plain="made destroyed rewrapped failed voters"),
    # login
    "FeatureSighting": fields(plain="feature", personal="mine everyone"),
    "LoginSignals": fields(
        plain="my_logins all_logins challenge device_known device_refused device_absent device_score_permille "
        "account_attempts_per_hour network_attempts_per_minute failures_per_hour leak",
        personal="sightings device_reasons travel_kmh",
    ),
    "LoginVerdict": fields(plain="decision score_permille policy_version", personal="reasons"),
    "FeatureValue": fields(plain="feature level", hidden="hashes"),
    "FeatureCount": fields(plain="feature level", personal="mine everyone"),
    "AssessLoginInput": fields(
        plain="attempt_id voter_id cell method leak policy_version device_policy_version provider "
        "second_factor_at_provider one_look proven_at one_step",
        hidden="jkt challenge_token nonce device_event_id seen provider_session",
    ),
    "LookAtDeviceInput": fields(plain="voter_id policy_version attempt_id", hidden="device_event_id nonce network"),
    "SeenDevice": fields(
        plain="absent refused known score_permille",
        personal="reasons counts travel_kmh flags",
        hidden="device values place",
    ),
    "RedeemChallengeInput": fields(plain="attempt_id", hidden="challenge_token nonce"),
    "RedeemedChallenge": fields(plain="outcome"),
    "ReadLoginsInput": fields(plain="voter_id method", hidden="seen"),
    "PastLogins": fields(
        plain="my_logins all_logins account_attempts_per_hour network_attempts_per_minute failures_per_hour factors",
        personal="counts",
    ),
    "LoginSight": fields(plain="device challenge past"),
    "LoginCounts": fields(plain="at", personal="device_flags", hidden="values device place"),
    "RecordLoginInput": fields(plain="request signals verdict factors", hidden="counts"),
    "JudgedLogin": fields(plain="signals verdict outcome factors", hidden="counts"),
    "EndLoginInput": fields(plain="attempt_id voter_id outcome factor", hidden="counts"),
    "TriedFactor": fields(plain="factor passed"),
    "StepUpState": fields(plain="outcome failures_left"),
    "AssessedLogin": fields(plain="attempt_id outcome verdict"),
    # reconciliation
    "Difference": fields(
        plain="detail kind cell batch region other_cell more",
        hidden="ballot participation",
        choice="option expected found",
    ),
    "RegionSums": fields(plain="region participations counted", choice="options"),
    "CellChecked": fields(
        plain="cell batches participations ballots tallied announced waiting transactions evidence_checked "
        "compared_with uncompared",
        choice="regions",
    ),
    "ReconcileSurveyInput": fields(plain="survey_id cells complete tally_grace_s"),
    "CheckCellInput": fields(plain="survey_id cell others complete tally_grace_s"),
    "ComparedTally": fields(plain="tallied announced waiting differences open_before"),
    "CompareCellsInput": fields(plain="survey_id cells"),
    "RepairTallyInput": fields(plain="survey_id cell"),
    "KeepTallyInput": fields(plain="survey_id cell differences repaired"),
    "OpenDifferencesInput": fields(plain="survey_id cell"),
    "OpenDifferences": fields(plain="differences"),
    "ReconciliationReport": fields(
        plain="survey_id complete checked repaired differences unreached began_at finished_at",
    ),
    # registration
    "HashedValue": fields(plain="key_id", hidden="digest"),
    "RegistrationRules": fields(plain="version minimum_age provider"),
    "RegisterVoterInput": fields(plain="registration_id voter_id cell cells rules", personal="region"),
    "RegisteredVoter": fields(plain="registration_id stage reasons case_no policy_version", personal="staff_reasons"),
    "RegistrationState": fields(plain="stage case_no"),
    "TriedCode": fields(hidden="hashes"),
    "SendCodeInput": fields(plain="registration_id voter_id number"),
    "SendMessageInput": fields(plain="voter_id kind key"),
    "NoteStageInput": fields(
        plain="registration_id revision stage reasons case_no provider reference expires_at policy_version",
        personal="staff_reasons",
    ),
    "CaseNumber": fields(plain="registration_id case_no"),
    "ErasedCase": fields(plain="confirmed"),
    "OpenAccountInput": fields(plain="voter_id", personal="region"),
    "OpenedAccount": fields(plain="opened"),
    "ActivateVoterInput": fields(plain="voter_id assurance", personal="person_id age_class"),
    "ActivatedVoter": fields(plain="activated"),
    "EndAccountInput": fields(plain="voter_id reason"),
    "OpenCaseInput": fields(plain="provider case_id"),
    "OpenedCase": fields(plain="reference"),
    "CaseReference": fields(plain="provider reference voter_id"),
    "CaseFinding": fields(
        plain="state attempt reasons assurance",
        personal="risk_labels same_face age_class",
        hidden="documents",
    ),
    "ClaimDocumentInput": fields(plain="claim_cell voter_id home_cell", personal="person_id", hidden="document"),
    "ClaimedDocument": fields(plain="state home_cell", personal="person_id"),
    "VerifyIdentityInput": fields(
        plain="registration_id voter_id cell cells rules case_no revision replaces recheck local_first"
    ),
    "VerifiedIdentity": fields(plain="decision reasons reference revision", personal="staff_reasons person_id"),
    # rejudging
    "JudgedOutcome": fields(plain="decision score_permille", personal="reasons"),
    "RejudgedDecision": fields(plain="subject verdict at policy_version before after why"),
    "OutcomeChange": fields(plain="before after count"),
    "RejudgedCounts": fields(plain="same different cannot changes"),
    "RejudgeStep": fields(plain="process policy since until"),
    "RejudgedPart": fields(plain="until counts sample"),
    "RejudgementState": fields(plain="rejudgement_id process since until judged_until counts sample is_cancelled"),
    "RejudgeInput": fields(plain="rejudgement_id cell process since until policy state"),
    # replays
    "ReplayInput": fields(
        plain="replay_id cell namespace workflow_id run_id workflow_type since until code archived steps judged_until"
    ),
    "ReplayStep": fields(plain="request number since"),
    "ReplayState": fields(plain="request asked_by asked_at stage steps judged_until same different cannot ended_at"),
    "EndReplay": fields(plain="request stage"),
    # work
    "CancelWork": fields(plain="actor role"),
    # support
    "CaseAction": fields(plain="action_id action actor reason"),
    "CaseActionTaken": fields(plain="stage"),
    "UnlockAccountInput": fields(plain="action_id cell case_id voter_id reinstates actor reason"),
    "BreakGlassInput": fields(plain="request_id cell case_id field actor role reason"),
    "DecideUnmasking": fields(plain="actor role approved"),
    "ReadUnmasking": fields(plain="actor"),
    "UnmaskingState": fields(plain="request_id case_id field reason stage asked_by decided_by expires_at reads"),
    "UnmaskingNote": fields(plain="key request_id case_id field step actor role reason"),
    # survey_runs
    "RunSurveyInput": fields(
        plain="survey_id cells actor expected_version opened paused finished certification certification_queue "
        "reconciliation_queue",
    ),
    # surveys
    "Option": fields(plain="id text image order"),
    "Question": fields(plain="id title min max order options description text_max"),
    "Survey": fields(
        plain="id title questions regions minimum_age roll_required visibility minimum_step start_at finish_at version",
    ),
    "InstallSurveyInput": fields(plain="cell survey", hidden="wrapped_ballot_key wrapped_eligibility_key"),
    "SurveyWindow": fields(plain="cell survey_id start_at finish_at"),
    "FinishSurvey": fields(plain="actor expected_version"),
    "SteerIntake": fields(plain="actor paused expected_version"),
    "SurveyIntake": fields(plain="survey_id paused cell actor"),
    "ExtendSurvey": fields(plain="actor finish_at expected_version"),
    "ExtendSurveyInput": fields(plain="survey_id actor finish_at"),
    "FreezeSurveyInput": fields(plain="survey_id actor at expected_version"),
    "SurveyReference": fields(plain="survey_id"),
    "SurveyKeys": fields(plain="survey_id", hidden="wrapped_ballot_key wrapped_eligibility_key"),
    "OpenSurveyInput": fields(plain="survey_id start_at finish_at"),
    "FinishSurveyInput": fields(plain="survey_id start_at finish_at actor"),
    "CorrectSurveyInput": fields(plain="survey actor expected_version"),
    "OpenedSurvey": fields(plain="survey keys"),
    "SurveyChanged": fields(plain="survey_id version stage start_at finish_at"),
    "AnnounceSurveyInput": fields(plain="cell change"),
    # voting
    "SealedVote": fields(plain="survey_id", personal="region", hidden="nullifier evidence sealed_answers key_mac"),
    "SubmitVotesInput": fields(plain="cell gateway_id number", hidden="votes"),
    "RecordVotesInput": fields(plain="batch accepted_at"),
    "RegionCounts": fields(plain="region ballots", choice="options"),
    "BatchSummary": fields(plain="cell gateway_id number survey_id", choice="regions"),
    "RecordedVotes": fields(hidden="outcomes", choice="summaries"),
    "AnnounceVotesInput": fields(plain="cell", choice="summaries"),
    "SubmitVotesResult": fields(hidden="outcomes"),
    "AttemptCount": fields(plain="survey_id region outcome count", hidden="device network"),
    "VotesAttempted": fields(plain="process at attempts left_out"),
}
