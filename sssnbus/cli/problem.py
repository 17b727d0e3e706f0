"""What a command has to say when it cannot do what was asked."""


class Problem(Exception):
    """Ends a command with one sentence on stderr.

    With ``--json`` the sentence is one JSON object, under ``code``.
    """

    def __init__(self, text: str, *, code: str = "ERROR", status: int = 1, retryable: bool = False) -> None:
        super().__init__(text)
        self.code = code
        """For programs: ``ERROR``, ``INVALID_ARGUMENT``, ``INVALID_MESSAGE_ID`` or ``INVALID_TIMESTAMP``."""
        self.status = status
        """The exit code: 1 for an error, 2 for nothing there."""
        self.retryable = retryable
        """Whether the same command may succeed later."""


class WrongWords(Problem):
    """The words of the command line fit no command; said in plain words, with ``--json`` too."""

    def __init__(self, text: str) -> None:
        super().__init__(text, code="INVALID_ARGUMENT")
