"""The one-step trap: the library behind the book.

Each chapter has a sub-package of the same name (``one_step_trap.discounting`` for chapter 2), and imports no other chapter.
What they stand on is :mod:`~one_step_trap.core` (checks, statistics, tabular worlds, environments);
:mod:`~one_step_trap.ledger` has the claims and what the chapters record, :mod:`~one_step_trap.pages` how figures look.
"""

__version__ = "0.1.0"
