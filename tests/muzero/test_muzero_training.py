"""Training: the same numbers for the same seed, a real kill and a resume, options, errors, and that it learns."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest

from one_step_trap.errors import BookError
from one_step_trap.muzero.checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from one_step_trap.muzero.environments import GRID, REWARD_BOUNDS, Task
from one_step_trap.muzero.evaluation import evaluate
from one_step_trap.muzero.networks import NetworkModel
from one_step_trap.muzero.search import SearchSettings
from one_step_trap.muzero.training import (
    PRESETS,
    Trainer,
    TrainingSettings,
    architecture,
    preset,
    resume,
    train,
)

TINY = TrainingSettings(
    env_steps=240,
    lanes=4,
    updates_per_step=1,
    batch=16,
    warmup=20,
    unroll_steps=3,
    n_step=5,
    simulations=5,
    latent=8,
    hidden=12,
    replay_rows=400,
    segment_steps=15,
    evaluate_every=80,
    evaluation_episodes=2,
    checkpoint_every=40,
)


def content(result):
    """All that must be equal in equal trainings: everything but seconds."""
    curve = [asdict(p) for p in result.curve]
    for point in curve:
        del point["cpu_seconds"], point["evaluation_seconds"]
    arrays, numbers = result.replay.state()
    return curve, [*result.net.export(), *arrays.values()], numbers


def same(one, other):
    a, b = content(one), content(other)
    return (
        a[0] == b[0] and a[2] == b[2] and all(np.array_equal(x, y) for x, y in zip(a[1], b[1], strict=True))
    )


@pytest.fixture(scope="module")
def whole():
    return train("CartPole-v1", TINY, 7)


def test_the_same_seed_gives_the_same_training_and_another_another(whole):
    assert same(whole, train(Task("CartPole-v1"), TINY, 7))
    assert not same(whole, train("CartPole-v1", TINY, 8))
    assert [p.env_steps for p in whole.curve] == [80, 160, 240]
    assert whole.curve[-1].updates > 40
    assert whole.curve[-1].cpu_seconds > 0


def test_a_killed_training_ends_like_an_unbroken_one(whole, tmp_path):
    program = (
        "import json, sys, time; from one_step_trap.muzero.training import *\n"
        "def stop(*_): print('evaluated', flush=True); time.sleep(3600)\n"
        "train('CartPole-v1', TrainingSettings(**json.loads(sys.argv[1])), 7, folder=sys.argv[2], progress=stop)"
    )
    command = [sys.executable, "-c", program, json.dumps(asdict(TINY)), str(tmp_path)]
    with subprocess.Popen(command, env=os.environ, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout.readline() == "evaluated\n"  # the first of three evaluations
        finally:
            child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert 0 < read_checkpoint(tmp_path).state["steps_done"] < TINY.vector_steps
    assert same(whole, resume(tmp_path))
    assert same(
        whole, train("CartPole-v1", TINY, 7, folder=tmp_path)
    )  # it lies there now, and is not done again


@pytest.mark.parametrize("stop", [1, 33, 59])
def test_every_interruption_ends_the_same(whole, tmp_path, stop):
    trainer = Trainer("CartPole-v1", TINY, 7)
    for _ in range(stop):
        trainer.step()
    write_checkpoint(tmp_path, trainer.checkpoint())
    assert same(whole, resume(tmp_path))


def test_options_together_are_deterministic_and_resume(tmp_path):
    options = replace(
        TINY, env_steps=120, priority_exponent=0.6, reanalyse=4, consistency_weight=1.0, unroll_max=10,
        act_with_average=False,
    )  # fmt: skip
    one = train("CartPole-v1", options, 0)
    assert one.curve[-1].losses[3] != 0
    assert one.replay.unroll_max == 10
    trainer = Trainer("CartPole-v1", options, 0)
    for _ in range(17):
        trainer.step()
    write_checkpoint(tmp_path, trainer.checkpoint())
    assert same(one, resume(tmp_path))


def test_held_actions_are_held_and_end_with_their_episode():
    """With probability 1 every lane always holds: runs of one action, with lengths from a geometric distribution."""
    trainer = Trainer("CartPole-v1", replace(TINY, holds=((0, 1.0),), warmup=10_000), 0)
    for _ in range(30):
        before = trainer.held.copy()
        trainer.step()
        for lane in range(TINY.lanes):
            taken = trainer.lanes.actions_taken[lane]
            if not taken:  # a new episode holds nothing yet
                assert trainer.held[lane].tolist() == [0, 0]
            elif before[lane, 1]:
                assert taken[-1] == before[lane, 0]
                assert trainer.held[lane, 1] == before[lane, 1] - 1
    rng, actions = np.random.default_rng(0), np.zeros(4, dtype=np.int64)
    trainer.acting, trainer.held = rng, np.zeros((4, 2), dtype=np.int64)
    lengths = []
    for _ in range(2_000):
        trainer._hold(actions, 1.0)
        lengths.append(trainer.held[:, 1].max())
    assert np.mean(lengths) > 10  # of the longest of four, that have 10 steps on average


def test_holds_are_part_of_a_resumed_training(tmp_path):
    options = replace(TINY, env_steps=120, holds=((0, 0.3), (0.5, 0)))
    one = train("CartPole-v1", options, 0)
    trainer = Trainer("CartPole-v1", options, 0)
    for _ in range(11):
        trainer.step()
    write_checkpoint(tmp_path, trainer.checkpoint())
    assert same(one, resume(tmp_path))


def test_the_replay_of_a_training_is_consistent(whole):
    r = whole.replay
    live = r.start_rows[r.policy_mask[r.start_rows]]
    np.testing.assert_allclose(r.policies[live].sum(1), 1, rtol=1e-5)
    assert max(s.steps for s in r.segments) <= TINY.segment_steps
    ended = [s for s in r.segments if s.terminated]
    assert ended
    for s in ended:
        assert r.values[s.first + s.steps] == 0
        assert (r.rewards[s.first : s.first + s.steps] == 1).all()
    low, high = whole.task.value_range(TINY.gamma)
    assert r.values.min() >= low
    assert r.values.max() <= high


def test_a_time_limit_is_bootstrapped_in_training():
    result = train(Task("CartPole-v1", max_steps=6), replace(TINY, env_steps=80), 0)
    ends = [s for s in result.replay.segments if s.steps == 6]
    assert ends
    for s in ends:
        assert not s.terminated
        assert not s.goes_on
        last = s.first + s.steps
        assert result.replay.root_values[last] == result.replay.values[last] > 0
        assert result.replay.policy_mask[last]
        assert not result.replay.reward_mask[last : last + 3].any()


def test_the_support_covers_what_can_be_reached():
    for id, bounds in REWARD_BOUNDS.items():
        if id.startswith(("CartPole-v0", "FrozenLake8x8", "Taxi", "CliffWalking")):
            continue
        task = Task(id)
        a = architecture(task, preset(task))
        a.support.check_covers(*task.value_range(preset(task).gamma))
        assert a.reward_scale == max(map(abs, bounds))


def test_it_learns_the_grid():
    settings = replace(PRESETS[GRID], env_steps=3_200, evaluate_every=3_200)
    result = train(Task(GRID, options={"size": 3}), settings, 0)
    assert result.last_mean(1) == 1.0
    r = result.replay
    live = r.start_rows[r.policy_mask[r.start_rows]]
    _, values = NetworkModel(result.net).predict(result.model.represent(r.observations[live]))
    assert np.corrcoef(values, r.values[live])[0, 1] > 0.5


def test_evaluation_is_greedy_and_seeded(whole):
    search = SearchSettings(simulations=5, gamma=0.99)
    one, again, other = (evaluate(whole.net, whole.task, search, episodes=5, seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert one.shape == (5,)
    assert (one >= 8).all()
    assert not np.array_equal(one, other)


def test_progress_and_summaries(whole):
    seen = []
    train(
        "CartPole-v1",
        replace(TINY, env_steps=80),
        0,
        progress=lambda point, total: seen.append((point.env_steps, total)),
    )
    assert seen == [(80, 80)]
    assert whole.first_reached(1e9) is None
    assert whole.first_reached(0).env_steps == 80
    assert whole.last_mean(2) == pytest.approx(np.mean([p.mean for p in whole.curve[-2:]]))


def test_a_checkpoint_of_another_training_is_one_clear_error(tmp_path):
    write_checkpoint(tmp_path, Trainer("CartPole-v1", TINY, 7).checkpoint())
    for task, settings, seed, message in (
        ("Acrobot-v1", TINY, 7, "its task has id = 'CartPole-v1', not 'Acrobot-v1'"),
        ("CartPole-v1", replace(TINY, gamma=0.9), 7, "its settings has gamma"),
        ("CartPole-v1", TINY, 8, "its seed is 7, not 8"),
    ):
        with pytest.raises(BookError, match=message):
            train(task, settings, seed, folder=tmp_path)
    saved = read_checkpoint(tmp_path)
    newer = saved.configuration | {"settings": saved.configuration["settings"] | {"unheard_of": 1}}
    write_checkpoint(tmp_path, Checkpoint(saved.arrays, newer, saved.state))
    with pytest.raises(BookError, match="another version"):
        resume(tmp_path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrainingSettings(unroll_steps=0), "unroll_steps must be at least 1"),
        (lambda: TrainingSettings(simulations=0), "simulations must be at least 1"),
        (lambda: TrainingSettings(evaluation_simulations=0), "evaluation_simulations must be at least 1"),
        (lambda: TrainingSettings(shorten_every=0), "shorten_every must be at least 1"),
        (lambda: TrainingSettings(unroll_max=2), "unroll_max"),
        (lambda: TrainingSettings(replay_rows=50), "replay_rows"),
        (lambda: TrainingSettings(temperatures=((0.5, 1.0),)), "the first share 0"),
        (lambda: TrainingSettings(temperatures=3), "pairs .share of the run, temperature"),
        (lambda: TrainingSettings(holds=((0, 1.5),)), "at most 1"),
        (lambda: TrainingSettings(smallest_range=0), "smallest_range"),
        (lambda: TrainingSettings(renew=-1), "renew"),
        (lambda: TrainingSettings(hold_steps=0.5), "hold_steps"),
        (lambda: TrainingSettings(learning_rate=-1), "learning_rate"),
        (lambda: TrainingSettings(gamma=1.5), "gamma"),
        (lambda: TrainingSettings(act_with_average=3), "act_with_average"),
        (lambda: train("Pendulum-v1"), "continuous"),
        (lambda: train(3), "task must be"),
        (lambda: train("CartPole-v1", "settings"), "TrainingSettings"),
        (lambda: train("CartPole-v1", TINY, -1), "seed"),
        (lambda: train("CliffWalking-v1", replace(TINY, gamma=1.0)), "no time limit"),
        (lambda: resume("/no/such/folder"), "no checkpoint"),
        (lambda: evaluate("net", "CartPole-v1"), "model must be"),
        (lambda: evaluate(None, "CartPole-v1", 3), "SearchSettings"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(BookError, match=message):
        make()
