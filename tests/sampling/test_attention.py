"""Attention of one token: by hand, and compiled against readable."""

import math

import numpy as np
import pytest
import torch

from one_step_trap.sampling.attention import attend_compiled, attend_reference

BOTH = pytest.mark.parametrize("attend", [attend_reference, attend_compiled])


def inputs(B=3, KV=2, G=2, D=8, length=20, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    shapes = (B, KV, G, D), (B, KV, length, D), (B, KV, length, D)
    q, K, V = (torch.randn(shape, generator=generator) * scale for shape in shapes)
    return q, K, V


@BOTH
def test_one_token_is_returned_as_it_is(attend):
    q, K, V = inputs()
    torch.testing.assert_close(attend(q, K, V, 1), V[:, :, :1].expand_as(q))


@BOTH
def test_equal_keys_give_the_mean_of_what_was_read(attend):
    q, K, V = inputs()
    K[:] = K[:, :, :1]
    torch.testing.assert_close(attend(q, K, V, 7), V[:, :, :7].mean(2, keepdim=True).expand_as(q))


@BOTH
def test_two_tokens_by_hand(attend):
    q, K, V = inputs(B=1, KV=1)
    q[:] = 0
    q[..., 0] = math.sqrt(8) * math.log(
        3
    )  # scores ln 3 and 0 after the division by the root of 8: weights 3/4, 1/4
    K[:] = 0
    K[0, 0, 0, 0] = 1
    torch.testing.assert_close(attend(q, K, V, 2)[0, 0, 0], 0.75 * V[0, 0, 0] + 0.25 * V[0, 0, 1])


@BOTH
def test_large_scores_do_not_overflow(attend):
    q, K, V = inputs(scale=100)
    out = attend(q, K, V, 20)
    assert torch.isfinite(out).all()
    scores = torch.einsum("bhgd,bhtd->bhgt", q, K)
    best = scores.argmax(-1)  # one key takes all
    for b, h, g in np.ndindex(3, 2, 2):
        torch.testing.assert_close(out[b, h, g], V[b, h, best[b, h, g]], rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize(("B", "KV", "G"), [(1, 1, 2), (3, 2, 2), (2, 4, 1)])
@pytest.mark.parametrize("T", [1, 2, 3, 4, 5, 8, 19, 20])
def test_compiled_is_the_reference(B, KV, G, T):
    q, K, V = inputs(B, KV, G, seed=T)
    whole = torch.cat([K, V])
    torch.testing.assert_close(
        attend_compiled(q, K, V, T), attend_reference(q, K, V, T), rtol=1e-5, atol=1e-5
    )
    assert torch.equal(torch.cat([K, V]), whole)  # the caches are read only


def test_what_lies_beyond_is_not_read():
    q, K, V = inputs()
    before = attend_compiled(q, K, V, 9)
    K[:, :, 9:], V[:, :, 9:] = math.nan, math.nan
    assert torch.equal(attend_compiled(q, K, V, 9), before)
