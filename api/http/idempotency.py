"""The key by which a repeated request is told from a second one."""

from typing import Annotated

from fastapi import Header

Key = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[\x21-\x7e]{8,128}$",
        description="The same key is the same request: it is done once, however often it is sent.",
    ),
]
