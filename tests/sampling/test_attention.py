"""Attention of one token: by hand, and torch's kernel on part of a cache against the formula."""

import math

import pytest
import torch

from one_step_trap.sampling.decoder import attend


def formula(q, K, V):
    """Return softmax(q·Kᵀ/√D)·V, one query at a time; head h reads the keys of its group."""
    out = torch.empty_like(q)
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            group = h // (q.shape[1] // K.shape[1])
            weights = torch.softmax(K[b, group] @ q[b, h, 0] / math.sqrt(q.shape[-1]), dim=0)
            out[b, h, 0] = weights @ V[b, group]
    return out


def inputs(B=3, KV=2, G=2, D=8, T=7, length=20, seed=0, scale=1.0):
    """Return queries, and keys and values as the first T of a longer cache."""
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn((B, KV * G, 1, D), generator=generator) * scale
    K, V = (torch.randn((B, KV, length, D), generator=generator) * scale for _ in range(2))
    return q, K[:, :, :T], V[:, :, :T]


def test_one_token_is_returned_as_it_is():
    q, K, V = inputs(T=1)
    torch.testing.assert_close(attend(q, K, V), V.repeat_interleave(2, dim=1))


def test_equal_keys_give_the_mean_of_what_was_read():
    q, K, V = inputs()
    K[:] = K[:, :, :1]
    torch.testing.assert_close(attend(q, K, V), V.mean(2, keepdim=True).repeat_interleave(2, dim=1))


def test_two_tokens_by_hand():
    q, K, V = inputs(B=1, KV=1, T=2)
    q[:] = 0
    q[..., 0] = math.sqrt(8) * math.log(3)  # scores ln 3 and 0 after the division by the root of 8
    K[:] = 0
    K[0, 0, 0, 0] = 1
    torch.testing.assert_close(attend(q, K, V)[0, 0, 0], 0.75 * V[0, 0, 0] + 0.25 * V[0, 0, 1])


def test_large_scores_do_not_overflow():
    q, K, V = inputs(scale=100, T=20)
    out = attend(q, K, V)
    assert torch.isfinite(out).all()
    torch.testing.assert_close(out, formula(q, K, V), rtol=1e-3, atol=1e-2)  # one key takes all


@pytest.mark.parametrize(("B", "KV", "G", "D"), [(1, 1, 2, 8), (3, 2, 2, 8), (2, 4, 1, 8), (2, 3, 3, 64)])
@pytest.mark.parametrize("T", [1, 2, 5, 20])
def test_the_kernel_is_the_formula(B, KV, G, D, T):
    q, K, V = inputs(B, KV, G, D, T, seed=T)
    torch.testing.assert_close(attend(q, K, V), formula(q, K, V), rtol=1e-5, atol=1e-5)


def test_what_lies_beyond_is_not_read():
    q, K, V = inputs(T=20)
    before = attend(q, K[:, :, :9], V[:, :, :9])
    K[:, :, 9:], V[:, :, 9:] = math.nan, math.nan
    assert torch.equal(attend(q, K[:, :, :9], V[:, :, :9]), before)
