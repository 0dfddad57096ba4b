"""Retries as a share of requests: what is down is not asked twice by everybody."""


class RetryBudget:
    """A bucket of retries: every request adds a share of one, every retry takes one.

    A single failure is retried, a few in a row are, and when everything fails the retries are `share` of the requests
    and not a multiple of them. `reserve` retries are there at the start and never exceeded.
    """

    def __init__(self, share: float = 0.1, reserve: float = 10.0) -> None:
        self._share = share
        self._reserve = reserve
        self.left = reserve

    def requested(self) -> None:
        """Count a request, whatever becomes of it."""
        self.left = min(self._reserve, self.left + self._share)

    def spend(self) -> bool:
        """Take one retry, or tell that there is none to take: then the failure stands."""
        if self.left < 1:
            return False
        self.left -= 1
        return True
