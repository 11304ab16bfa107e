"""The one error a user is meant to read.

A `UserError` says what is wrong, where, and how to mend it. Entry points (stages, the command line)
print it as one line on standard error and exit with code 2; everything else is a defect and keeps
its traceback. It is raised before work starts.
"""


class UserError(Exception):
    """Bad input: `what` is wrong at `where`, mended by `fix`."""

    exit_code = 2

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        text = what if where is None else f"{where}: {what}"
        super().__init__(text if fix is None else f"{text} -> {fix}")


class OutageError(UserError):
    """A server stopped answering: no fault of the input, and the same command goes on later."""

    exit_code = 1


class QualityError(UserError):
    """A stage's output failed its quality gate; a repeated run would fail again."""

    exit_code = 3
