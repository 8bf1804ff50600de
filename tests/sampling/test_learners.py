"""Learners: counts by hand, what they do without data, gradients against autograd, the cone of unused tokens."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from one_step_trap.errors import BookError
from one_step_trap.sampling import learners as le
from one_step_trap.sampling.languages import entropy, off_support, sample_pairs

COUNTS = np.array([[2, 1, 0], [0, 0, 0], [1, 0, 3]])


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def data():
    language = off_support(rng(5))
    return language, sample_pairs(language, 100_000, rng(6))


def test_add_alpha_by_hand():
    model = le.add_alpha(COUNTS, 1)
    assert model == pytest.approx(
        np.array([[3 / 6, 2 / 6, 1 / 6], [1 / 3, 1 / 3, 1 / 3], [2 / 7, 1 / 7, 4 / 7]])
    )


def test_backoff_by_hand():
    u = np.array([3.5, 1.5, 3.5]) / 8.5  # column sums 3, 1, 3 with alpha 1/2
    Q = le.backoff(COUNTS, tau=2, alpha=0.5)
    assert Q[1] == pytest.approx(u)
    assert Q[0] == pytest.approx((np.array([2, 1, 0]) + 2 * u) / 5)


def test_copying_by_hand():
    Q = le.copying(COUNTS, copy=0.5, alpha=1)  # beta = 3
    assert Q[1] == pytest.approx(np.array([1, 4, 1]) / 6)
    assert Q[0] == pytest.approx(np.array([2 + 1 + 3, 1 + 1, 1]) / 9)
    assert le.copying(COUNTS, copy=0) == pytest.approx(le.add_alpha(COUNTS))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 1_000), min_size=4, max_size=4), min_size=4, max_size=4),
    st.floats(1e-3, 5),
    st.floats(0, 0.99),
)
def test_rows_are_laws_and_data_wins(rows, alpha, copy):
    counts = np.array(rows)
    for learn in (
        lambda n: le.add_alpha(n, alpha),
        lambda n: le.backoff(n, 1, alpha),
        lambda n: le.copying(n, copy, alpha),
    ):
        Q = learn(counts)
        assert Q.sum(1) == pytest.approx(np.ones(4))
        assert Q.min() > 0
        many = learn((counts + 1) * 10**9)
        assert many == pytest.approx((counts + 1) / (counts + 1).sum(1, keepdims=True), abs=1e-4)


def log_loss(weights, counts):
    """Mean of -ln Q of the pairs counted, nats."""
    return -(counts * np.log(weights.model)).sum() / counts.sum()


def test_how_the_leak_shrinks_with_data():
    language = off_support(rng(1))
    unused = language.regions == 1
    expected = language.start[:, None] * language.P  # counts in expectation, no noise
    leaks = {
        name: [language.start @ learn(N * expected)[:, unused].sum(1) for N in (1e7, 1e8)]
        for name, learn in (("add", le.add_alpha), ("backoff", le.backoff), ("copying", le.copying))
    }
    assert leaks["add"][1] / leaks["add"][0] == pytest.approx(0.1, rel=0.01)
    assert leaks["backoff"][1] / leaks["backoff"][0] == pytest.approx(0.01, rel=0.01)
    assert leaks["copying"][1] / leaks["copying"][0] == pytest.approx(0.1, rel=0.1)


# --- network ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", le.BODIES)
@pytest.mark.parametrize("tied", [False, True])
def test_gradients_against_autograd(body, tied):
    generator = rng(2)
    E = generator.normal(size=(5, 3))
    U = E if tied else generator.normal(size=(5, 3))
    b, W = generator.normal(size=5), generator.normal(size=(3, 3))
    counts = generator.integers(0, 9, (5, 5)).astype(float)
    counts[3] = 0
    weights = le.Weights(E, U, b, W, body)
    e, w, c = (torch.tensor(x, requires_grad=True) for x in (E, W, b))
    u = e if tied else torch.tensor(U, requires_grad=True)
    h = {"none": e, "layer": torch.tanh(e @ w), "residual": e + torch.tanh(e @ w)}[body]
    loss = -(torch.tensor(counts) * torch.log_softmax(h @ u.T + c, 1)).sum() / counts.sum()
    loss.backward()
    dE, dU, db, dW = le.gradients(weights, counts)
    assert log_loss(weights, counts) == pytest.approx(loss.item())
    assert (dE + dU if tied else dE) == pytest.approx(e.grad.numpy())
    assert db == pytest.approx(c.grad.numpy())
    if body != "none":
        assert dW == pytest.approx(w.grad.numpy())
    if not tied:
        assert dU == pytest.approx(u.grad.numpy())
        assert (dE[3] == 0).all()  # a context without data teaches nothing
    assert weights.model == pytest.approx(torch.softmax(h @ u.T + c, 1).detach().numpy())


def test_training_approaches_the_best_possible_loss():
    counts = rng(3).integers(1, 200, (6, 6))
    weights = le.train_weights(counts, rng(4), le.Network(rank=6, steps=800))
    best = (counts.sum(1) / counts.sum()) @ entropy(counts / counts.sum(1, keepdims=True))
    assert best < log_loss(weights, counts) < best + 0.002
    assert weights.model == pytest.approx(counts / counts.sum(1, keepdims=True), abs=0.02)


def mean_cosine(vectors):
    """The mean cosine of all pairs: about 0 in all directions, 1 in one."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    n = len(unit)
    return (np.square(unit.sum(axis=0)).sum() - n) / (n * (n - 1))


def test_unused_tokens_share_a_cone_and_tied_ones_never_return(data):
    language, counts = data
    unused = language.regions == 1
    start = rng(1).normal(0, 1, (200, 16))
    back, cone = {}, {}
    for name, net in (
        ("untied", le.Network()),
        ("tied", le.Network(tied=True)),
        ("residual", le.Network(tied=True, body="residual")),
        ("layer", le.Network(tied=True, body="layer", spread=0.1)),
    ):
        weights = le.train_weights(counts, rng(1), net)
        back[name] = weights.model[unused][:, ~unused].sum(1).mean()
        cone[name] = mean_cosine(weights.E[unused])
        if name == "untied":
            assert (weights.E[unused] == start[unused]).all()  # inputs never trained
            assert mean_cosine(weights.U[unused]) > 0.4  # outputs all pushed one way
    assert abs(cone["untied"]) < 0.02
    assert cone["tied"] > 0.4
    assert back["untied"] > 0.7
    assert back["tied"] < 0.01
    assert back["residual"] < 0.1
    assert back["layer"] > 0.9  # no path around the layer, small weights: it returns


def test_same_seed_same_network(data):
    _, counts = data
    net = le.Network(steps=5, body="residual")
    assert (le.train_network(counts, rng(1), net) == le.train_network(counts, rng(1), net)).all()
    assert (le.train_network(counts, rng(1), net) != le.train_network(counts, rng(2), net)).any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: le.add_alpha([[1, 2]]), "square"),
        (lambda: le.add_alpha([[1, -2], [0, 1]]), "at least 0"),
        (lambda: le.add_alpha([["a", "b"], ["c", "d"]]), "array of numbers"),
        (lambda: le.add_alpha(COUNTS, 0), "above 0"),
        (lambda: le.add_alpha(np.full((2, 2), np.nan)), "NaN"),
        (lambda: le.backoff(COUNTS, tau=-1), "tau"),
        (lambda: le.copying(COUNTS, copy=1), "below 1"),
        (lambda: le.copying(COUNTS, copy=1.5), "probability"),
        (lambda: le.Network(rank=0), "rank"),
        (lambda: le.Network(tied=1), "True or False"),
        (lambda: le.Network(body="deep"), "one of none"),
        (lambda: le.Network(learning_rate=0), "above 0"),
        (lambda: le.train_network(np.zeros((3, 3)), rng()), "nothing to train"),
        (lambda: le.train_network(COUNTS, 0), "Generator"),
        (lambda: le.train_network(COUNTS, rng(), "tied"), "Network"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BookError, match=message):
        call()
