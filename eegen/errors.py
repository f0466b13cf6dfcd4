"""What goes wrong, in one clear line each."""


class EegenError(Exception):
    """The user's doing: bad input. The command line prints it and exits with 2."""

    exit_code = 2


class EegenFailure(EegenError):
    """Not the user's doing: a full disk, a failing compiler. Exit code 1."""

    exit_code = 1
