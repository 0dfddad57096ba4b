"""How many requests each caller may make: one table of policies, whatever the route, and who their subjects are.

A policy is a token bucket: `quota` requests at once, and as many again, evenly, in each `window_s`. What a number is
made of: honest use at the platform's peak of 240,000 requests per second, and then room. A stranger must not be able
to use up what is somebody else's, so voters, tokens, devices, staff and machine clients are counted after they have
proved who they are; addresses and networks, which strangers share, get so much that only a flood reaches their end.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

_IPV6_CUSTOMER_BYTES = 8  # whoever has one IPv6 address has 2^64 of them
_IPV6_NETWORK_BYTES = 6
_IPV4_NETWORK_BYTES = 3


class Subject(StrEnum):
    """What a limit is counted for."""

    VOTER = "voter"
    TOKEN = "token"  # noqa: S105 - the person behind a voting token, in one survey
    DEVICE = "device"  # the key that a token is bound to, or else the device that it names
    ADDRESS = "address"
    NETWORK = "network"
    CONTACT = "contact"  # an address that messages are sent to
    STAFF = "staff"
    CLIENT = "client"


@dataclass(frozen=True, slots=True)
class Policy:
    """At most `quota` requests of one subject at once, and as many again, evenly, in each `window_s`."""

    name: str
    subject: Subject
    quota: int
    window_s: int

    @property
    def interval_s(self) -> float:
        """How long one request takes to be permitted again."""
        return self.window_s / self.quota


# One ballot and its retries: an app that asks once a second while a cell is down does so for five minutes.
VOTE_TOKEN = Policy("vote-token", Subject.TOKEN, 300, 600)
# A family, or a kiosk with a queue before it.
VOTE_DEVICE = Policy("vote-device", Subject.DEVICE, 600, 600)
# A carrier puts a third of the market behind some ten gateways: 240,000 / 3 / 10 = 8,000 a second through one address.
VOTE_ADDRESS = Policy("vote-address", Subject.ADDRESS, 100_000, 10)
# All gateways of that carrier.
VOTE_NETWORK = Policy("vote-network", Subject.NETWORK, 1_000_000, 10)
# One request per choice, as fast as fingers go through a long survey, changes of mind included.
ANSWER_TOKEN = Policy("answer-token", Subject.TOKEN, 600, 60)
# An app that looks once a second, on three screens, for the voter who waits for a confirmation.
SUBMISSION_TOKEN = Policy("submission-token", Subject.TOKEN, 600, 180)
# Above the count at which risk denies, so that its own word is heard first; from here on no database is asked.
ADMISSION_VOTER = Policy("admission-voter", Subject.VOTER, 300, 60)
ADMISSION_DEVICE = Policy("admission-device", Subject.DEVICE, 600, 60)
ADMISSION_ADDRESS = Policy("admission-address", Subject.ADDRESS, 100_000, 10)
ADMISSION_NETWORK = Policy("admission-network", Subject.NETWORK, 1_000_000, 10)
# An app that lost its answer asks again; a session lives on one refresh in fifteen minutes.
SESSION_VOTER = Policy("session-voter", Subject.VOTER, 120, 60)
# Everybody behind a carrier's gateway refreshes once in fifteen minutes, and in the same minute after an outage.
SESSION_ADDRESS = Policy("session-address", Subject.ADDRESS, 20_000, 10)
SESSION_NETWORK = Policy("session-network", Subject.NETWORK, 200_000, 10)
# Everybody behind a carrier's gateway logs in on the day of a survey; each costs a hash, two vendors and a workflow.
LOGIN_ADDRESS = Policy("login-address", Subject.ADDRESS, 6_000, 60)
LOGIN_NETWORK = Policy("login-network", Subject.NETWORK, 60_000, 60)
# Whoever guesses at an account from everywhere. It also bounds how often its owner is let in while that goes on.
LOGIN_CONTACT = Policy("login-contact", Subject.CONTACT, 60, 600)
# Each sends a message to somebody who may not have asked for it.
LOGIN_CODE_CONTACT = Policy("login-code-contact", Subject.CONTACT, 10, 3_600)
# An identity provider tells of each session that ends there; whoever else calls has nothing to say.
LOGOUT_ADDRESS = Policy("logout-address", Subject.ADDRESS, 2_000, 10)
LOGOUT_NETWORK = Policy("logout-network", Subject.NETWORK, 5_000, 10)
# A vendor tells from a handful of addresses, ten times as fast as a rush that it was measured with, and tells again
# what was refused; signatures are checked for everybody else.
WEBHOOK_ADDRESS = Policy("webhook-address", Subject.ADDRESS, 50_000, 10)
WEBHOOK_NETWORK = Policy("webhook-network", Subject.NETWORK, 100_000, 10)
# Tokens and keys that are not good. A tenth of a gateway's peak, which is more expired tokens than it can bring.
FAILURE_ADDRESS = Policy("failure-address", Subject.ADDRESS, 60_000, 60)
# Reads go through caches, which ask once a second for each page; without one, a small town behind one address.
SURVEY_ADDRESS = Policy("survey-address", Subject.ADDRESS, 10_000, 10)
SURVEY_NETWORK = Policy("survey-network", Subject.NETWORK, 50_000, 10)
# A page of the list is a query of the catalogue, never of a cache of ours.
LIST_ADDRESS = Policy("list-address", Subject.ADDRESS, 2_000, 10)
LIST_NETWORK = Policy("list-network", Subject.NETWORK, 10_000, 10)
RESULTS_ADDRESS = Policy("results-address", Subject.ADDRESS, 10_000, 10)
RESULTS_NETWORK = Policy("results-network", Subject.NETWORK, 50_000, 10)
# Everybody behind a gateway comes back within seconds when a process ends.
STREAM_ADDRESS = Policy("stream-address", Subject.ADDRESS, 20_000, 10)
STREAM_NETWORK = Policy("stream-network", Subject.NETWORK, 100_000, 10)
# Whoever registers does so once, and mistypes; a carrier's gateway stands before a city on the day of an announcement.
REGISTER_ADDRESS = Policy("register-address", Subject.ADDRESS, 2_000, 60)
REGISTER_NETWORK = Policy("register-network", Subject.NETWORK, 20_000, 60)
# Each sends a message to somebody who may not have asked for it.
REGISTER_CONTACT = Policy("register-contact", Subject.CONTACT, 5, 86_400)
# An app that looks every few seconds while its person is at the provider's pages.
REGISTRATION_ADDRESS = Policy("registration-address", Subject.ADDRESS, 20_000, 60)
REGISTRATION_NETWORK = Policy("registration-network", Subject.NETWORK, 100_000, 60)
# Whoever changes how to log in does it some times in a row; a password costs a core for 50 ms.
ACCOUNT_VOTER = Policy("account-voter", Subject.VOTER, 30, 600)
# Whoever has forgotten asks for a link, looks, and asks again; each address is written to so many times a day.
RECOVER_ADDRESS = Policy("recover-address", Subject.ADDRESS, 2_000, 60)
RECOVER_NETWORK = Policy("recover-network", Subject.NETWORK, 20_000, 60)
RECOVER_CONTACT = Policy("recover-contact", Subject.CONTACT, 5, 86_400)
# Links that are used, and certificates of deletion that are read.
ACCOUNT_ADDRESS = Policy("account-address", Subject.ADDRESS, 2_000, 60)
ACCOUNT_NETWORK = Policy("account-network", Subject.NETWORK, 20_000, 60)
# A console with some tabs asks ten times a second; a script of a member of staff fifty times.
STAFF = Policy("staff", Subject.STAFF, 3_000, 60)
# A page of Temporal's UI sends what each of a hundred events holds by itself.
CODEC = Policy("codec", Subject.STAFF, 600, 60)
# Each starts a workflow that writes a file.
EXPORT = Policy("export", Subject.STAFF, 60, 60)
# Each goes through a period of decisions, in the processes that people log in by.
REJUDGE = Policy("rejudge", Subject.STAFF, 10, 60)
# Each has histories read and decrypted, one replay at a time; a person looks at one after the other.
REPLAY = Policy("replay", Subject.STAFF, 30, 60)

# Files that one address is reading from one process at the same moment; a mirror needs one or two.
DOWNLOAD_HELD = Policy("download-held", Subject.ADDRESS, 16, 1)

POLICIES = {
    policy.name: policy
    for policy in (
        VOTE_TOKEN,
        VOTE_DEVICE,
        VOTE_ADDRESS,
        VOTE_NETWORK,
        ANSWER_TOKEN,
        SUBMISSION_TOKEN,
        ADMISSION_VOTER,
        ADMISSION_DEVICE,
        ADMISSION_ADDRESS,
        ADMISSION_NETWORK,
        SESSION_VOTER,
        SESSION_ADDRESS,
        SESSION_NETWORK,
        LOGIN_ADDRESS,
        LOGIN_NETWORK,
        LOGIN_CONTACT,
        LOGIN_CODE_CONTACT,
        LOGOUT_ADDRESS,
        LOGOUT_NETWORK,
        WEBHOOK_ADDRESS,
        WEBHOOK_NETWORK,
        REGISTER_ADDRESS,
        REGISTER_NETWORK,
        REGISTER_CONTACT,
        REGISTRATION_ADDRESS,
        REGISTRATION_NETWORK,
        ACCOUNT_VOTER,
        RECOVER_ADDRESS,
        RECOVER_NETWORK,
        RECOVER_CONTACT,
        ACCOUNT_ADDRESS,
        ACCOUNT_NETWORK,
        FAILURE_ADDRESS,
        SURVEY_ADDRESS,
        SURVEY_NETWORK,
        LIST_ADDRESS,
        LIST_NETWORK,
        RESULTS_ADDRESS,
        RESULTS_NETWORK,
        STREAM_ADDRESS,
        STREAM_NETWORK,
        STAFF,
        CODEC,
        EXPORT,
        REJUDGE,
        REPLAY,
    )
}


def client_policy(requests_per_minute: int) -> Policy:
    """Return the policy of a machine client, whose limit is its own."""
    return Policy("client", Subject.CLIENT, requests_per_minute, 60)


def policies_with(changed: Mapping[str, tuple[int, int]]) -> dict[str, Policy]:
    """Return the policies with other quotas and windows (seconds) for some, by name; `_` is read as `-`.

    Raises:
        ValueError: a name is no policy's, or a number is not positive.
    """
    found = dict(POLICIES)
    for name, (quota, window_s) in changed.items():
        known = name.replace("_", "-")
        if known not in found:
            raise ValueError(f"no limit is called {name}; there are {', '.join(sorted(found))}")
        if quota < 1 or window_s < 1:
            raise ValueError(f"the limit {known} takes a quota and a window of at least 1")
        found[known] = replace(found[known], quota=quota, window_s=window_s)
    return found


def held_streams(at_most: int) -> Policy:
    """Return the policy of streams that one address holds open in one process."""
    return Policy("stream-held", Subject.ADDRESS, at_most, 1)


class Place(NamedTuple):
    """Where a request comes from: an IPv4 address or IPv6 /64, and the /24 or /48 around it, as so many bytes."""

    address: bytes
    network: bytes


_NOWHERE = Place(b"", b"")


def place_of(client: str) -> Place:
    """Return the place of a client's address; whatever is no address is in one place together."""
    try:
        address = IPv6Address(client) if ":" in client else IPv4Address(client)
    except ValueError:
        return _NOWHERE
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is None:
            return Place(address.packed[:_IPV6_CUSTOMER_BYTES], address.packed[:_IPV6_NETWORK_BYTES])
        address = address.ipv4_mapped
    return Place(address.packed, address.packed[:_IPV4_NETWORK_BYTES])
