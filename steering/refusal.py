"""What a person is told instead of a traceback where an eval cannot be run as it was asked for."""

# What Inspect's command line shows without a traceback.
from inspect_ai._util.error import PrerequisiteError
from rich.markup import escape


class Refusal(PrerequisiteError, ValueError):  # noqa: N818  an eval is refused
    """A task, solver or model that cannot be had as it was asked for; its one line names the value, what is valid, the remedy."""

    def __init__(self, message: str) -> None:
        super().__init__(escape(message))  # Inspect prints it with rich
        self.args = (message,)
