"""Turns votes away before they are verified, by cell and survey, while a cell has as many as it can answer soon."""

from binascii import Error, a2b_base64
from collections.abc import Callable
from typing import Final

import msgspec

from api.votes.intake import VoteIntake


class _Claimed(msgspec.Struct):
    survey: str
    cell: str


_CLAIMED: Final = msgspec.json.Decoder(_Claimed)
_SEGMENTS: Final = 3
_TO_STANDARD: Final = bytes.maketrans(b"-_", b"+/")


class VoteGate:
    """One per process.

    What a token claims is not verified here. Who lies about cell or survey is at most taken and then refused by the
    verification, or refused in another's place; a vote never gets further than it would have.
    """

    def __init__(self) -> None:
        self._cells: dict[str, tuple[VoteIntake, Callable[[str], bool]]] = {}

    def add(self, cell: str, intake: VoteIntake, knows: Callable[[str], bool]) -> None:
        """Watch over a cell; `knows` tells whether a survey is one that this process has votes of."""
        self._cells[cell] = intake, knows

    @property
    def full(self) -> bool:
        """Whether some cell takes no more than shares."""
        for intake, _ in self._cells.values():  # noqa: SIM110 - read for every request
            if intake.full:
                return True
        return False

    def refuses(self, parameter: str, authorization: bytes) -> bool:
        """Tell whether a vote is refused: its cell is full, and its survey has its share or is none that we know."""
        claimed = _claimed(authorization)
        if claimed is None or claimed.cell not in self._cells:
            return False  # it costs little to say what is wrong with it
        intake, knows = self._cells[claimed.cell]
        if not intake.full:
            return False
        survey_id = parameter or claimed.survey
        return not (knows(survey_id) and intake.takes(survey_id))


def _claimed(authorization: bytes) -> _Claimed | None:
    """Return what a compact JWS (RFC 7515, section 7.1) says of itself, or None; spellings are not looked at here."""
    segments = authorization.split(b".")  # what stands before the token is a part of the first
    if len(segments) != _SEGMENTS:
        return None
    try:
        return _CLAIMED.decode(a2b_base64(segments[1].translate(_TO_STANDARD) + b"=="))
    except (Error, ValueError):  # of which msgspec's errors are one kind
        return None
