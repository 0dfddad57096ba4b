"""A town whose people register, seen by the service `support`."""

from tests.api.auth.registration_town import town
from tests.api.support.support_world import support

__all__ = ["support", "town"]
