"""The one exception a user may meet: bad input, bad configuration, bad file."""

from __future__ import annotations

import re

from emgen.addresses import redacted

LONGEST = 4000
"""Characters of a message: a screen. What a file says of itself may be of any length, and is repeated in messages."""
# a terminal obeys these; a name in a file may hold them
_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


class EmgenError(Exception):
    """Says what was expected, what was found, where, and what to do.

    Programming errors stay `ValueError` and `TypeError`; everything a user can cause is this. The message is made
    `sayable`.
    """

    def __init__(self, message: object) -> None:
        super().__init__(sayable(str(message)))


def sayable(message: str) -> str:
    """A message without secrets in addresses and without what a terminal would obey, and no longer than a screen.

    >>> sayable("no volume at s3://key:secret@bucket/a\\x1b[2J")
    'no volume at s3://***@bucket/a\\\\x1b[2J'
    """
    message = redacted(message)
    if len(message) > LONGEST:
        half = LONGEST // 2
        message = f"{message[:half]} … {message[-half:]}"
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], message)
