"""A town whose people register, of whom the service `compliance` exports evidence."""

from tests.api.auth.registration_town import town
from tests.api.compliance.officer import officer, registered

__all__ = ["officer", "registered", "town"]
