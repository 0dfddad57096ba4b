"""A town whose people register, of whom the service `compliance` exports evidence."""

from tests.api.auth.test_registration import town

__all__ = ["town"]
