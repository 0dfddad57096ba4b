"""The database roles: one per service, none of which owns a table."""

OWNER = "comitia_owner"  # owns schemas and runs migrations; no process serves as it
VOTING = "comitia_voting"  # schema `voting`, insert into `audit.entry`, places of batches in the log
IDENTITY = "comitia_identity"  # schema `identity`; places of a case's entries in the log, where histories are archived
TALLY = "comitia_tally"  # reads schema `voting`; results, streams and the tally
SURVEYS = "comitia_surveys"  # the catalogue; installs copies into cells
RECONCILIATION = "comitia_reconciliation"  # reads schema `voting` and the audit entries; schema `reconciliation`
CERTIFICATION = "comitia_certification"  # reads schema `voting`, sealed ballots too, and writes nothing
CLOSING = "comitia_closing"  # seals surveys in cells, notes and installs certificates, takes out keys at their end
UNMASKING = "comitia_unmasking"  # writes the audit entries of break-glass, and nothing else
CODEC = "comitia_codec"  # writes the audit entries of the codec server, and nothing else
STAFFING = "comitia_staffing"  # the roll of staff and machine clients, by commands: no process serves as it
ROLLS = "comitia_rolls"  # puts persons on electoral rolls, by `comitia roll`: no process serves as it
CONSOLE = "comitia_console"  # signs staff in at the pages of surveys
SEARCH = "comitia_search"  # finds places of audit entries and reads none; proves one participation by its nullifier
AUDIT = "comitia_audit"  # reads audit entries, gives them their places, keeps their search; notes archived histories

CELL_ROLES = (
    VOTING,
    IDENTITY,
    TALLY,
    SURVEYS,
    RECONCILIATION,
    CERTIFICATION,
    CLOSING,
    UNMASKING,
    CODEC,
    STAFFING,
    ROLLS,
    CONSOLE,
    SEARCH,
    AUDIT,
)
CATALOGUE_ROLES = (SURVEYS, RECONCILIATION, CLOSING, SEARCH, AUDIT)
