"""What only the release before needs in a database, and nobody once none of its processes runs any more.

Every statement can be repeated. The next release takes over what is said here into revisions, and begins anew.
"""

from typing import Final

# `comitia_closing` ends surveys now, and `comitia_search` proves who took part. A right to the whole table would be one
# to each column.
CELL: Final = """
REVOKE UPDATE ON voting.survey, identity.survey FROM comitia_surveys;
GRANT UPDATE (definition, wrapped_ballot_key, start_at, finish_at, paused_at) ON voting.survey TO comitia_surveys;
GRANT MAINTAIN ON voting.survey TO comitia_surveys;
GRANT UPDATE (wrapped_eligibility_key, start_at, finish_at) ON identity.survey TO comitia_surveys;
REVOKE INSERT ON tally.certificate FROM comitia_surveys;
-- `comitia_staffing` makes members of staff and machine clients now.
REVOKE INSERT, UPDATE ON identity.api_client, identity.staff FROM comitia_identity;
REVOKE INSERT, UPDATE, DELETE ON identity.staff_login FROM comitia_identity;
-- `comitia_rolls` puts persons on electoral rolls now.
REVOKE INSERT, DELETE ON identity.roll FROM comitia_identity;
REVOKE EXECUTE ON FUNCTION audit.participation_proof(text, bytea, bigint), audit.place_of_batch(xid8)
    FROM comitia_identity;
"""
CATALOGUE: Final = """
REVOKE INSERT, UPDATE ON catalogue.certification FROM comitia_surveys;
"""
