"""Networks: the loss against plain loops, the gradient against differences, remedies, ensembles, bad input."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from one_step_trap.errors import BookError
from one_step_trap.trap import networks as n
from one_step_trap.trap.worlds import Trajectories, collect, trajectories

QUICK = n.Training(hidden=16, batch=32, updates=300)


def linear(episodes=40, steps=25, noise=0.0, seed=0, sensor=0.0):
    """A world of two numbers, x' = A x + B a (+ noise): what a network can learn in a moment."""
    rng = np.random.default_rng(seed)
    A, B = np.array([[0.9, 0.2], [-0.2, 0.9]]), np.array([0.3, -0.5])
    observations, actions = [], []
    for _ in range(episodes):
        a, x = rng.uniform(-1, 1, (steps, 1)), [rng.normal(size=2)]
        for t in range(steps):
            x.append(A @ x[-1] + B * a[t] + noise * rng.standard_normal(2))
        observations.append(np.array(x) + sensor * rng.standard_normal((steps + 1, 2)))
        actions.append(a)
    return trajectories("linear", observations, actions)


def rolled(model, observations, actions):
    """Open-loop predictions (B, k+1, D), one plain step after the other."""
    path = [observations]
    for j in range(actions.shape[1]):
        path.append(model(path[-1], actions[:, j]))
    return np.stack(path, axis=1)


def depth_error(model, data, k):
    obs, act = data.windows(k)
    return float(np.sqrt(((rolled(model, obs[:, 0], act)[:, k] - obs[:, k]) ** 2).mean()))


# --- the arithmetic ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 4])
def test_the_loss_is_the_mean_over_depths_of_the_error_in_units_of_a_change(k):
    data = linear()
    trainer = n._Trainer(data, replace(QUICK, unroll_steps=k), 0, 1, False)
    trainer.run(3)
    episode, step = data.starts(k)
    first = torch.tensor(trainer.starts[:, :50])
    rows = first + torch.arange(k + 1)[:, None, None]
    with torch.no_grad():
        loss = float(trainer._loss(trainer.z[rows], trainer.u[rows[:-1]]))
    obs, act = data.windows(k, starts=(episode[:50], step[:50]))
    path = rolled(trainer.network(), obs[:, 0], act)
    before, _, after = data.transitions()
    expected = np.mean(((path[:, 1:] - obs[:, 1:]) / (after - before).std(0)) ** 2)
    assert loss == pytest.approx(expected, rel=1e-12)


def test_gradient_runs_through_the_predictions():
    data = linear(episodes=3)
    trainer = n._Trainer(data, replace(QUICK, hidden=3, unroll_steps=3), 0, 1, False)
    z, u = trainer._batch(3)
    trainer._loss(z, u).backward()
    for p in trainer.parameters:
        for index in ((0, 0, 0), (0, -1, -1)):
            values = []
            for step in (1e-6, -1e-6):
                with torch.no_grad():
                    p[index] += step
                    values.append(float(trainer._loss(z, u)))
                    p[index] -= step
            difference = (values[0] - values[1]) / 2e-6
            assert float(p.grad[index]) == pytest.approx(difference, rel=1e-5, abs=1e-8)


def test_a_member_alone_says_what_it_says_in_the_ensemble():
    data = linear()
    ensemble = n.train(data, QUICK, seed=0, members=3)
    obs, act, _ = data.transitions()
    mean, sd = ensemble.predict(obs, act)
    assert mean.shape == (3, len(obs), 2)
    assert (sd == 0).all()
    for m in range(3):
        alone = replace(
            ensemble,
            weights=tuple(W[m : m + 1] for W in ensemble.weights),
            biases=tuple(b[m : m + 1] for b in ensemble.biases),
        )
        np.testing.assert_allclose(alone(obs, act), mean[m], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ensemble(obs, act), mean.mean(0), rtol=1e-12)
    assert np.abs(mean[0] - mean[1]).max() > 1e-6  # members differ


def test_bounds_of_the_log_variance():
    low, high = torch.tensor(-10.0), torch.tensor(0.5)
    x = torch.tensor([-1e3, -4.0, 1e3])
    found = n.bounded(x, low, high)
    assert float(found[0]) == pytest.approx(-10, abs=1e-4)
    assert float(found[1]) == pytest.approx(-4, abs=0.02)  # between the bounds almost nothing changes
    assert float(found[2]) == pytest.approx(0.5, abs=1e-4)


def test_gradients_are_clipped_member_by_member():
    trainer = n._Trainer(linear(), replace(QUICK, clip=1e-3), 0, 2, False)
    trainer._loss(*trainer._batch(1)).backward()
    before = [p.grad.clone() for p in trainer.parameters]
    trainer._clip()
    for m in range(2):
        norm = sum(float((g[m] ** 2).sum()) for g in before) ** 0.5
        after = sum(float((p.grad[m] ** 2).sum()) for p in trainer.parameters) ** 0.5
        assert norm > 1e-3
        assert after == pytest.approx(1e-3, rel=1e-6)


# --- what is learned --------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 5])
def test_a_linear_world_is_learned(k):
    data, fresh = linear(), linear(seed=1)
    model = n.train(data, replace(QUICK, updates=600, unroll_steps=k), seed=0)
    assert depth_error(model, fresh, 1) < 0.05 * fresh.scale().mean()
    assert depth_error(model, fresh, 10) < 0.2 * fresh.scale().mean()
    assert model.losses[-50:].mean() < 0.05 * model.losses[:10].mean()


def test_a_real_world_is_learned():
    data, fresh = (collect("Pendulum-v1", 4_000, seed) for seed in (0, 1))
    model = n.train(data, n.Training(updates=800), seed=0)
    obs, act, after = fresh.transitions()
    assert np.mean((model(obs, act) - after) ** 2) < 0.01 * np.mean((obs - after) ** 2)


def test_a_column_that_never_changes_and_actions_that_do_not():
    obs = [np.column_stack((np.linspace(0, 1, 30), np.full(30, 7.0)))]
    model = n.train(trajectories("still", obs, [np.zeros((29, 1))]), QUICK, seed=0)
    after = model([[0.5, 7.0]], [[0.0]])
    np.testing.assert_allclose(after, [[0.5 + 1 / 29, 7]], atol=0.02)


def test_training_through_steps_helps_where_the_sensor_is_noisy():
    noisy, clean = linear(sensor=0.5, episodes=80), linear(seed=1)
    one, five = (n.train(noisy, replace(QUICK, updates=800, unroll_steps=k), seed=0) for k in (1, 5))
    # One step: the noise of o_t biases the slope towards 0. Through five steps it is averaged away.
    assert depth_error(five, clean, 5) < 0.8 * depth_error(one, clean, 5)


def test_warm_up_is_one_step_training():
    data = linear()
    model = n.train(data, replace(QUICK, unroll_steps=10, warm_up=0.5), seed=0)
    assert len(model.losses) == QUICK.updates
    # The loss through ten steps of a network is larger than that through one.
    assert model.losses[150:160].mean() > 2 * model.losses[140:150].mean()


def test_probabilistic_networks_learn_the_noise():
    data = linear(noise=0.3, episodes=150)
    ensemble = n.train(data, replace(QUICK, updates=1_000), seed=0, probabilistic=True, members=2)
    assert ensemble.probabilistic
    assert ensemble.members == 2
    obs, act, after = linear(noise=0.3, seed=1).transitions()
    mean, sd = ensemble.predict(obs, act)
    np.testing.assert_allclose(sd.mean((0, 1)), 0.3, rtol=0.15)
    inside = np.abs(mean[0] - after) < 1.645 * sd[0]
    assert 0.85 < inside.mean() < 0.95  # 90% nominal
    drawn = ensemble.sample(
        np.repeat(obs[:1], 4_000, 0), np.repeat(act[:1], 4_000, 0), np.random.default_rng(0)
    )
    np.testing.assert_allclose(drawn.mean(0), ensemble(obs[:1], act[:1])[0], atol=0.03)
    total = np.sqrt((sd[:, 0] ** 2).mean(0) + mean[:, 0].var(0))  # of the mixture of members
    np.testing.assert_allclose(drawn.std(0), total, rtol=0.06)


def test_a_row_can_listen_to_one_member():
    ensemble = n.train(linear(), QUICK, seed=0, members=3)
    obs, act, _ = linear().transitions()
    mean, _ = ensemble.predict(obs[:3], act[:3])
    drawn = ensemble.sample(obs[:3], act[:3], np.random.default_rng(0), member=[2, 0, 1])
    np.testing.assert_allclose(drawn, mean[[2, 0, 1], [0, 1, 2]], rtol=1e-12)  # no variance: the mean itself


# --- data as demonstrator ---------------------------------------------------------------------------------


def test_corrections_by_hand():
    data = trajectories(
        "count", [[[0.0], [1], [2], [3], [4]], [[10.0], [11]]], [np.arange(4.0)[:, None], [[9.0]]]
    )

    def model(o, a):
        return o + 1.5  # half a step too far

    obs, act = n.corrections(model, data, 3)
    # Rollouts from 0 (three steps), from 3 (one step left) and from 10 (one): the last two correct nothing.
    np.testing.assert_array_equal(obs[..., 0], [[1.5, 2], [3, 3]])
    np.testing.assert_array_equal(act[:, 0, 0], [1, 2])
    obs, _ = n.corrections(model, data, 4)
    np.testing.assert_array_equal(obs[..., 0], [[1.5, 2], [3, 3], [4.5, 4]])


def test_data_as_demonstrator_grows_the_data_and_helps_where_the_sensor_is_noisy():
    noisy, clean = linear(sensor=0.5, episodes=80), linear(seed=1)
    trainer = n._Trainer(noisy, QUICK, 0, 1, False)
    before, windows = len(trainer.z), trainer.starts.shape[1]
    trainer.add_corrections(noisy, 5)
    added = 80 * 5 * 4  # each of 80 episodes of 25 steps holds 5 rollouts with 4 corrections
    assert trainer.starts.shape[1] == windows + added
    assert len(trainer.z) == before + 2 * added
    assert not torch.isnan(trainer.z[torch.from_numpy(trainer.starts[0, windows:])]).any()
    one = n.train(noisy, replace(QUICK, updates=800), seed=0)
    other = n.train_on_own_rollouts(noisy, replace(QUICK, updates=800), seed=0)
    assert len(other.losses) == 800
    assert depth_error(other, clean, 5) < 0.95 * depth_error(one, clean, 5)


# --- determinism ------------------------------------------------------------------------------------------


def weights(network):
    return np.concatenate([x.ravel() for x in network.weights + network.biases])


def test_same_seed_same_network_whatever_else_happens():
    data = linear()
    torch.manual_seed(1)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    first = n.train(data, QUICK, seed=7, members=2)
    assert torch.equal(state, torch.get_rng_state())  # global randomness is neither used nor moved
    assert torch.get_num_threads() == threads
    torch.manual_seed(2)
    np.random.seed(3)  # noqa: NPY002 - the point is that it does not matter
    second = n.train(data, QUICK, seed=7, members=2)
    np.testing.assert_array_equal(weights(first), weights(second))
    assert np.abs(weights(first) - weights(n.train(data, QUICK, seed=8, members=2))).max() > 0.01
    a, b = (n.train_on_own_rollouts(data, QUICK, seed=7) for _ in range(2))
    np.testing.assert_array_equal(weights(a), weights(b))


def test_float64_in_and_out():
    model = n.train(linear(), QUICK, seed=0)
    out = model(np.zeros((2, 2), dtype=np.float32), np.zeros((2, 1), dtype=np.int64))
    assert out.dtype == np.float64
    assert np.isnan(model([[np.nan, 0]], [[0]])).any()  # a rollout that has run away does not stop the others


# --- bad input --------------------------------------------------------------------------------------------


def spoilt():
    data = linear(episodes=2)
    observations = data.observations.copy()
    observations[0, 3] = np.nan
    return Trajectories("spoilt", observations, data.actions, data.lengths, data.terminated)


MODEL = n.train(linear(episodes=2), replace(QUICK, updates=1), seed=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: n.Training(unroll_steps=0), "unroll_steps must be at least 1"),
        (lambda: n.Training(unroll_steps=2.5), "unroll_steps must be a whole number"),
        (lambda: n.Training(hidden="many"), "hidden must be a number"),
        (lambda: n.Training(learning_rate=0), "learning_rate must be above 0"),
        (lambda: n.Training(clip=-1), "clip must be above 0"),
        (lambda: n.Training(warm_up=2), "warm_up must be a probability"),
        (lambda: n.train(linear(), n.Training(unroll_steps=26), seed=0), "no episode of linear has 26 steps"),
        (lambda: n.train(spoilt(), QUICK, seed=0), "the data hold NaN"),
        (
            lambda: n.train(replace(linear(episodes=2), lengths=np.array([25, 99])), QUICK, seed=0),
            "lengths must be whole numbers from 1 to 25",
        ),
        (
            lambda: n.train(replace(linear(episodes=2), actions=np.zeros((2, 9, 1))), QUICK, seed=0),
            "trajectories need observations",
        ),
        (lambda: n.train(np.zeros((3, 2)), QUICK, seed=0), "data must be Trajectories"),
        (lambda: n.train(linear(), {"hidden": 3}, seed=0), "training must be a Training"),
        (lambda: n.train(linear(), QUICK, seed=-1), "seed must be at least 0"),
        (lambda: n.train(linear(), QUICK, seed=0, members=0), "members must be at least 1"),
        (
            lambda: n.train(linear(), replace(QUICK, unroll_steps=2), seed=0, probabilistic=True),
            "a probabilistic network is trained through one step",
        ),
        (
            lambda: n.train_on_own_rollouts(linear(), replace(QUICK, unroll_steps=2), seed=0),
            "use unroll_steps = 1",
        ),
        (lambda: n.train_on_own_rollouts(linear(), QUICK, seed=0, rounds=0), "rounds must be at least 1"),
        (lambda: n.train_on_own_rollouts(linear(), QUICK, seed=0, depth=1), "depth must be at least 2"),
        (lambda: n.train_on_own_rollouts(linear(steps=1), QUICK, seed=0), "nothing to correct"),
        (lambda: MODEL([[0.0]], [[0.0]]), r"takes observations \(B, 2\) and actions \(B, 1\)"),
        (lambda: MODEL([[0.0, 0], [0, 0]], [[0.0]]), "takes observations"),
        (lambda: MODEL([["a", "b"]], [[0.0]]), "must be arrays of numbers"),
        (lambda: MODEL.sample([[0.0, 0]], [[0.0]], 0), "numpy.random.Generator"),
        (
            lambda: MODEL.sample([[0.0, 0]], [[0.0]], np.random.default_rng(0), member=[1]),
            "member must hold 1",
        ),
        (
            lambda: MODEL.sample([[0.0, 0]], [[0.0]], np.random.default_rng(0), member=[0, 0]),
            "member must hold 1",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BookError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [-1, "yes", None])
def test_probabilistic_is_a_yes_or_a_no(value):
    data = trajectories("mine", [np.arange(6.0)[:, None]], [np.zeros((5, 1))])
    with pytest.raises(BookError, match="probabilistic must be True or False"):
        n.train(data, n.Training(updates=1), seed=0, probabilistic=value)
