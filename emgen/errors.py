"""The one exception a user may meet: bad input, bad configuration, bad file."""


class EmgenError(Exception):
    """Says what was expected, what was found, where, and what to do.

    Programming errors stay `ValueError` and `TypeError`; everything a user can cause is this.
    """
