"""What keeps a measurement from being made."""


class CannotRun(Exception):
    """A run could not be made. One sentence that says why; the command prints it and ends with 2."""
