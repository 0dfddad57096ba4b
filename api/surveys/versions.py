"""Entity tags of surveys (RFC 9110 section 13): strong, one per version."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from domain.errors import DomainError, ErrorCode

_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e]*)"')


def entity_tag(version: int) -> str:
    """Return the strong entity tag of a version."""
    return f'"{version}"'


@dataclass(frozen=True, slots=True)
class Precondition:
    """An `If-Match`, or none; None as `header` and `*` take any version."""

    header: str | None

    @property
    def names_versions(self) -> bool:
        """Whether the caller said which versions they saw."""
        return self.header is not None and self.header.strip() != "*"

    def require(self, versions: Iterable[int | None]) -> None:
        """Accept where one of these versions was meant; weak tags never match.

        Raises:
            DomainError: `precondition_failed`.
        """
        if not self.names_versions:
            return
        assert self.header is not None
        meant = {value for weak, value in _TAG.findall(self.header) if not weak}
        if meant.isdisjoint(str(version) for version in versions if version is not None):
            raise DomainError(ErrorCode.PRECONDITION_FAILED, "the survey is of another version")


def is_unchanged(if_none_match: str | None, version: int) -> bool:
    """Tell whether a reader has this version already; weak tags count as well."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or str(version) in {value for _, value in _TAG.findall(if_none_match)}
