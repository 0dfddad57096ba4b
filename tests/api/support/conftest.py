"""A town whose people register, seen by the service `support`."""

from tests.api.auth.test_registration import town

__all__ = ["town"]
