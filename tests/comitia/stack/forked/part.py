"""What a template imports once for all that it forks."""

import os

IMPORTED_BY = os.getpid()
