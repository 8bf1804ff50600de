"""Functions compiled by Numba, and kept on disk where there is a place for them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numba
from numba.core.caching import FunctionCache


class _Kept(FunctionCache):
    """Numba's cache, without which a function is only compiled anew: no fault of it is worth a failure."""

    def load_overload(self, *arguments: Any) -> Any:
        with contextlib.suppress(Exception):  # a file that was cut short
            return super().load_overload(*arguments)  # type: ignore[no-untyped-call]
        return None

    def save_overload(self, *arguments: Any) -> None:
        with contextlib.suppress(Exception):  # a full disk, or the same file
            super().save_overload(*arguments)  # type: ignore[no-untyped-call]


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return ``numba.njit(cache=True, **options)``, or without the cache where neither source nor home can be written."""

    def compiled(function: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(**options)(function)
        with contextlib.suppress(RuntimeError):  # no place for it
            dispatcher._cache = _Kept(function)  # type: ignore[no-untyped-call]
        return dispatcher

    return compiled
