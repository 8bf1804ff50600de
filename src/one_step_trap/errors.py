"""The one error that readers and users of this library meet."""

from __future__ import annotations


class BookError(ValueError):
    """Input that cannot be right: the message says what is wrong and what would be right.

    Notebooks and papermill logs show the one line and not the call stack behind it, because the mistake is in what
    was asked for and not in the code that noticed. Set ``__cause__`` (``raise ... from``) where the stack matters.
    """

    def _render_traceback_(self) -> list[str]:
        """IPython's hook: show the message alone."""
        return [f"{type(self).__name__}: {self}"]
