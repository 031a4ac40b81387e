"""The base of all errors that are the user's to mend."""


class GradpropError(Exception):
    """Something the user can mend; the message says what and how, and needs no traceback."""
