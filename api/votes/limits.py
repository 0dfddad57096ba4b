"""What voters may ask for in one cell."""

from dataclasses import dataclass

from api.http.limits import Limits, RouteLimits
from domain.limits import ANSWER_TOKEN, SUBMISSION_TOKEN, VOTE_ADDRESS, VOTE_DEVICE, VOTE_NETWORK, VOTE_TOKEN, Policy


@dataclass(frozen=True, slots=True)
class VotingLimits:
    """The limits of each kind of request: ballots and finished sessions, single answers, looks at a submission."""

    cast: RouteLimits
    answer: RouteLimits
    look: RouteLimits


def voting_limits(limits: Limits, cell: str) -> VotingLimits:
    """Return the limits of a cell; device, address and network are counted over all three kinds together."""

    def route(own: Policy) -> RouteLimits:
        return limits.route(cell, own=own, device=VOTE_DEVICE, address=VOTE_ADDRESS, network=VOTE_NETWORK)

    return VotingLimits(cast=route(VOTE_TOKEN), answer=route(ANSWER_TOKEN), look=route(SUBMISSION_TOKEN))
