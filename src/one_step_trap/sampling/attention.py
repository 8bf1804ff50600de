"""Attention of one new token a sequence to all tokens before it: a readable form, and a compiled one for the CPU.

While a text is generated, this is where the time goes: each step reads the keys and the values of all tokens so
far from memory. Queries that share a key (grouped-query attention, Ainslie et al. 2023, arXiv 2305.13245) are
worked through while it is at hand, so that it is read once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
import torch

Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, int], torch.Tensor]


def attend_reference(q: torch.Tensor, K: torch.Tensor, V: torch.Tensor, T: int) -> torch.Tensor:
    """Return ``softmax(q·Kᵀ/√D)·V`` for one new token a sequence (Vaswani et al. 2017, equation 1).

    ``q`` has shape (B, KV, G, D): G queries share each of KV keys. ``K`` and ``V`` are the caches, of shape
    (B, KV, length, D), whose first T entries are filled. The result has the shape of ``q``.
    """
    scores = q @ K[:, :, :T].transpose(2, 3) * q.shape[-1] ** -0.5  # (B, KV, G, T)
    return torch.softmax(scores, dim=-1) @ V[:, :, :T]


def attend_compiled(q: torch.Tensor, K: torch.Tensor, V: torch.Tensor, T: int) -> torch.Tensor:
    """Return the same as `attend_reference`, on the CPU and in 32-bit floats, about twice as fast.

    The caches must be contiguous: they are read in place, and only then does the compiler know how they lie.
    """
    B, KV, G, D = q.shape
    score, mix = _kernels(G, D)
    scores = torch.empty((B, KV, G, T))
    score((q * D**-0.5).contiguous().numpy(), K.numpy(), scores.numpy())
    out = torch.empty((B, KV, G, D))
    mix(torch.softmax(scores, dim=-1).numpy(), V.numpy(), out.numpy())
    return out


@cache
def _kernels(G: int, D: int) -> tuple[Any, Any]:
    """Return the two compiled loops; G and D are constants in them, so that the inner loops become vector code."""

    @numba.njit(fastmath=True)
    def score(q: Any, K: Any, out: Any) -> None:
        for b in range(K.shape[0]):
            for h in range(K.shape[1]):
                for t in range(out.shape[3]):
                    for g in range(G):
                        total = np.float32(0)
                        for d in range(D):
                            total += q[b, h, g, d] * K[b, h, t, d]
                        out[b, h, g, t] = total

    @numba.njit(fastmath=True)
    def mix(p: Any, V: Any, out: Any) -> None:
        T = p.shape[3]
        fours = T - T % 4  # four tokens at a time: the sums are loaded and stored a quarter as often
        for b in range(V.shape[0]):
            for h in range(V.shape[1]):
                sums = np.zeros((G, D), np.float32)
                for t in range(0, fours, 4):
                    for g in range(G):
                        p0, p1, p2, p3 = (
                            p[b, h, g, t],
                            p[b, h, g, t + 1],
                            p[b, h, g, t + 2],
                            p[b, h, g, t + 3],
                        )
                        for d in range(D):
                            sums[g, d] += (
                                p0 * V[b, h, t, d]
                                + p1 * V[b, h, t + 1, d]
                                + p2 * V[b, h, t + 2, d]
                                + p3 * V[b, h, t + 3, d]
                            )
                for t in range(fours, T):
                    for g in range(G):
                        for d in range(D):
                            sums[g, d] += p[b, h, g, t] * V[b, h, t, d]
                out[b, h] = sums

    return score, mix
