"""Seeds of any size for generators that take few bits."""

from __future__ import annotations

import numpy as np


def at_most(bits: int, seed: int) -> int:
    """Return a seed (at least 0) as it is if it has at most ``bits`` bits, 32 or 64; otherwise one derived from it."""
    if seed < 2**bits:
        return seed
    return int(np.random.SeedSequence(seed).generate_state(1, np.dtype(f"uint{bits}"))[0])
