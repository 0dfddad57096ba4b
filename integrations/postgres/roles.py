"""The database roles: one per service, none of which owns a table."""

OWNER = "comitia_owner"  # owns schemas and runs migrations; no process serves as it
VOTING = "comitia_voting"  # schema `voting`, insert into `audit.entry`, places of batches in the log
IDENTITY = "comitia_identity"  # schema `identity`; places of a case's entries in the log, where histories are archived
TALLY = "comitia_tally"  # reads schema `voting`; results, streams and the tally
SURVEYS = "comitia_surveys"  # the catalogue; installs copies into cells
RECONCILIATION = "comitia_reconciliation"  # reads schema `voting` and the audit entries; schema `reconciliation`
CERTIFICATION = "comitia_certification"  # reads schema `voting`, sealed ballots too, and writes nothing
AUDIT = "comitia_audit"  # reads audit entries and gives them their places; notes which histories are archived

CELL_ROLES = (VOTING, IDENTITY, TALLY, SURVEYS, RECONCILIATION, CERTIFICATION, AUDIT)
CATALOGUE_ROLES = (SURVEYS, RECONCILIATION, AUDIT)
