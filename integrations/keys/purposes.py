"""The purposes that keys are made for; a composition names the ones that its process may use.

`public:` before a purpose permits its public keys only; `generate:` permits new wrapped data keys without ever
showing one in the clear; `manage:` permits new versions, re-wrapping and destruction, and shows no key either.
"""

ACCESS_TOKEN = "access-token"  # noqa: S105 - signs the access tokens of voters
STAFF_TOKEN = "staff-token"  # noqa: S105 - signs the access tokens of staff
VOTING_TOKEN = "voting-token"  # noqa: S105 - signs the permission to vote
EVIDENCE = "evidence"  # signs what the ledger keeps of an admission
KEK_BALLOT = "kek/ballot"  # wraps the surveys' ballot keys
KEK_ELIGIBILITY = "kek/eligibility"  # wraps the surveys' eligibility keys; only admission may unwrap
CERTIFICATE = "certificate"  # signs the certificates of surveys; never destroyed, since they are checked for years
AUDIT_LOG = "audit-log"  # signs the tree heads of audit logs; never destroyed, like that of certificates
BUNDLE = "evidence-bundle"  # signs what of a case is given to a third party; never destroyed, like the two above
SUBMISSION = "submission"  # authenticates submission ids
PSEUDONYM = "pseudonym"  # keyed hashes of voters, devices and networks in logs, counters and attempts
LIMITS = "limits"  # keyed hashes under which limits are counted; another key, so that the two cannot be joined
KEK_PERSONAL = "kek/personal"  # wraps the keys of voters' personal data; only `identity` may unwrap
LOOKUP = "lookup"  # keyed hashes of contact addresses, logins and devices, for finding what is encrypted
REGISTRATION = "registration"  # makes the secrets of who registers; never destroyed while such registrations go on
DOCUMENT = "document"  # keyed hashes of documents, under which persons are claimed; never destroyed while claims live
INBOX = "inbox"  # encrypts webhooks until they are handled
CONSOLE = "console"  # encrypts the cookies of staff

KEY_ENCRYPTION_KEYS = (KEK_BALLOT, KEK_ELIGIBILITY, KEK_PERSONAL)
HASH_KEYS = (LOOKUP, DOCUMENT)  # get new versions and lose none: what was hashed under one cannot be hashed anew

# Of what is good for minutes or hours, tokens and cookies: replaced by schedule, and the old one destroyed two days
# later, when the last that was made under it has long expired
SHORT_LIVED_KEYS = (ACCESS_TOKEN, STAFF_TOKEN, CONSOLE)

PUBLIC = "public:"
GENERATE = "generate:"
MANAGE = "manage:"

SIGNING = frozenset({ACCESS_TOKEN, STAFF_TOKEN, VOTING_TOKEN, EVIDENCE, CERTIFICATE, AUDIT_LOG, BUNDLE})
HISTORY = "history"  # encrypts histories that last: of registration, login and accounts; kept until retention
DAILY = "in-flight"  # everything under it gets a new key every day (UTC)


def in_flight(cell: str) -> str:
    """Return the purpose of the keys that encrypt a cell's workflow payloads: `in-flight/{cell}`."""
    return f"{DAILY}/{cell}"


def history(cell: str) -> str:
    """Return the purpose of the keys that encrypt a cell's histories of identity: `history/{cell}`."""
    return f"{HISTORY}/{cell}"


def public(purpose: str) -> str:
    """Return the permission to read a signing purpose's public keys and nothing else."""
    return PUBLIC + purpose


def generate(purpose: str) -> str:
    """Return the permission to make wrapped data keys without seeing them."""
    return GENERATE + purpose


def manage(purpose: str) -> str:
    """Return the permission to make new versions of a key, re-wrap under them, and destroy old ones, seeing none."""
    return MANAGE + purpose
