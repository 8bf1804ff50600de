"""The one-step trap: the library behind the book.

Each chapter has a sub-package of the same name (``one_step_trap.discounting`` for chapter 2). What they share lives here:
:mod:`~one_step_trap.validate` (checks of input), :mod:`~one_step_trap.stats` (intervals), :mod:`~one_step_trap.record`
(claims and numbers that a chapter records), :mod:`~one_step_trap.figures` (how figures look).
"""

__version__ = "0.1.0"
