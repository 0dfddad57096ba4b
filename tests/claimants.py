"""Claims documents as `workflows/claiming.py` does, without its workflow: for tests of the claims themselves.

Versions are claimed in order, oldest first, so that of any two who claim at once one comes second at the first version
that both know. A step that fails because a cell is away is repeated with everything before it, which changes nothing.
"""

from collections.abc import Mapping, Sequence

from domain.accounts import Claim, ClaimState, DocumentClaims, KeyedHash, claiming_cell
from domain.errors import DomainError, ErrorCode

ClaimsByCell = Mapping[str, DocumentClaims]  # of every cell of the deployment: their names say where a claim is


async def claim_everywhere(
    claims: ClaimsByCell, document: Sequence[KeyedHash], proposed_person_id: str, home_cell: str, voter_id: str
) -> Claim:
    """Claim a document under every version (oldest first), or under none; return whose it is.

    Granted means granted everywhere, for one person: the one whom an earlier claim names, or else the proposed one.
    Any other answer lets go of what was claimed, last claimed first; so call it for a voter without an account, who
    has nothing else to lose. Safe to repeat with the same proposal, at any point and after any failure.

    Raises:
        DomainError: `directory_unavailable`: a cell is away, try again; `claim_contradicted`: two claims of the
            document name two persons, none is held.
    """
    granted: list[KeyedHash] = []
    person_id = proposed_person_id
    for version in document:
        claim = await _of(claims, version).claim(version, person_id, home_cell, voter_id)
        if claim.state is not ClaimState.GRANTED:
            await release_everywhere(claims, granted, voter_id)
            return claim
        granted.append(version)
        if len(granted) > 1 and claim.person_id != person_id:
            await release_everywhere(claims, granted, voter_id)
            raise DomainError(ErrorCode.CLAIM_CONTRADICTED, f"under {version.key_id}")
        person_id = claim.person_id
    if not granted:
        raise DomainError(ErrorCode.KEY_UNAVAILABLE, "a document without a hash")
    return Claim(ClaimState.GRANTED, person_id, home_cell)


async def settle_everywhere(claims: ClaimsByCell, document: Sequence[KeyedHash], voter_id: str) -> None:
    """Note that the claims have led to an account, oldest version first. Safe to repeat.

    Raises:
        DomainError: `directory_unavailable`, or `claim_contradicted`: the voter does not hold one of them.
    """
    for version in document:
        await _of(claims, version).settle(version, voter_id)


async def release_everywhere(claims: ClaimsByCell, document: Sequence[KeyedHash], voter_id: str) -> None:
    """Let go of the claims, newest version first; whoever comes next meets the oldest one last. Safe to repeat.

    Raises:
        DomainError: `directory_unavailable`; what is left is let go of by repeating it.
    """
    for version in reversed(document):
        await _of(claims, version).release(version, voter_id)


def _of(claims: ClaimsByCell, version: KeyedHash) -> DocumentClaims:
    return claims[claiming_cell(version.digest, tuple(claims))]
