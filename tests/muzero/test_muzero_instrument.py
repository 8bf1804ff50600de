"""The instrument of chapter 4: its report, its files, a killed training, and what it refuses before it trains."""

import json
import re
import shutil
import threading
from xml.etree import ElementTree

import pytest

from one_step_trap.errors import BookError
from one_step_trap.muzero import checkpoints
from one_step_trap.muzero import instrument as ins
from one_step_trap.muzero.environments import GRID
from one_step_trap.muzero.training import TrainingSettings

TINY = TrainingSettings(
    env_steps=120,
    lanes=4,
    batch=8,
    warmup=20,
    simulations=3,
    latent=6,
    hidden=8,
    n_step=5,
    gamma=0.9,
    evaluate_every=40,
    evaluation_episodes=2,
    checkpoint_every=40,
)
SMALL = {"episodes": 3, "depth": 6}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setattr(ins, "preset", lambda task: TINY)


@pytest.fixture
def no_training(monkeypatch):
    def train(*args, **options):
        raise AssertionError("it trained")

    monkeypatch.setattr(ins, "train", train)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("muzero") / "new" / "folder"
    lines = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ins, "preset", lambda task: TINY)
        report, paths = ins.run(GRID, unroll_steps=2, out=folder, progress=lines.append, **SMALL)
    return folder, report, paths, lines


def test_the_report(finished):
    _, report, _, lines = finished
    assert (report.env_id, report.unroll_steps, report.seed, report.env_steps) == (GRID, 2, 0, 120)
    assert report.mean_return.n == len(report.returns) == 3
    assert report.rows() == [1, 2, 4, 6]
    text = str(report)
    assert f"{GRID}: MuZero trained through 2 steps, seed 0" in text
    assert re.search(r"^ +2  own .* <- K$", text, re.M)
    assert all(len(line) < 130 for line in text.splitlines())
    assert len(lines) == 3
    assert lines[-1].startswith("100%  120 steps")
    assert report.error("reward", "agent", 1).n == ins.STARTS
    assert report.error("value_return", "random", 1) is None


def test_the_files(finished):
    folder, report, paths, _ = finished
    assert sorted(p.name for p in folder.iterdir()) == sorted([*(p.name for p in paths), checkpoints.NAME])
    assert sorted(p.name for p in paths) == sorted(ins.file_names(GRID).values())
    stored = json.loads((folder / ins.file_names(GRID)["report"]).read_text())
    assert stored == json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert stored["prediction_errors"]["agent"]["reward"]["depth"] == [1, 2, 3, 4, 5, 6]
    assert stored["learning_curve"]["env_steps"] == [40, 80, 120]
    for path in paths:
        if path.suffix == ".svg":
            assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_a_finished_run_is_reported_again(finished):
    folder, report, _, _ = finished
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    again, paths = ins.run(resume_from=folder, **SMALL)
    assert paths == []
    assert again.to_dict() == report.to_dict()
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_a_killed_training_ends_the_same(finished, tmp_path):
    def killed(line):
        if line.lstrip().startswith("67%"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ins.run(GRID, unroll_steps=2, out=tmp_path / "run", progress=killed, **SMALL)
    assert [p.name for p in (tmp_path / "run").iterdir()] == [checkpoints.NAME]  # nothing half-written
    report, paths = ins.run(resume_from=tmp_path / "run", **SMALL)
    assert len(paths) == 4
    seconds = {"cpu_seconds": 0}
    assert report.to_dict() | seconds == finished[1].to_dict() | seconds


def test_a_second_training_in_the_folder_is_refused_at_once(tmp_path):
    """While the first is under way; and the first is none the worse for it."""
    refused, threads, folder = [], [], tmp_path / "run"

    def second(**options):
        try:
            ins.run(**options, **SMALL)
        except BookError as error:
            refused.append(str(error))

    def meanwhile(line):
        new = [{"env": GRID, "seed": 2, "out": folder}, {"env": "CartPole-v1", "out": folder}]
        for options in (*new, {"resume_from": folder}):
            threads.append(threading.Thread(target=second, kwargs=options))
            threads[-1].start()
            threads[-1].join()

    report, paths = ins.run(GRID, seed=1, unroll_steps=2, out=folder, progress=meanwhile, **SMALL)
    assert len(refused) == len(threads) == 3 * 3
    assert all("another run is writing" in line for line in refused)
    assert json.loads(paths[0].read_text())["seed"] == report.seed == 1
    assert checkpoints.read_checkpoint(folder).configuration["seed"] == 1
    assert sorted(p.name for p in folder.iterdir()) == sorted([*(p.name for p in paths), checkpoints.NAME])


def test_a_report_of_another_training_beside_the_checkpoint(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    path = folder / ins.file_names(GRID)["report"]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seed": 7}))
    with pytest.raises(BookError, match=r"report of another training than .* \(its seed is 7, not 0\)"):
        ins.run(resume_from=folder, **SMALL)
    path.write_text("")
    with pytest.raises(BookError, match="is no report of a training"):
        ins.run(resume_from=folder, **SMALL)


def test_files_that_are_missing_are_written(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    lost = [folder / ins.file_names(GRID)[name] for name in ("errors", "learning")]
    for path in lost:
        path.unlink()
    _, paths = ins.run(resume_from=folder, **SMALL)
    assert paths == lost
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {
        p.name: p.read_bytes() for p in finished[0].iterdir()
    }


@pytest.mark.parametrize("seed", [2**32, 2**64, 10**30])
def test_seeds_of_any_size(tmp_path, seed):
    small = {"env_steps": 40, "episodes": 2, "depth": 2, "seed": seed}
    report, _ = ins.run(GRID, out=tmp_path, **small)
    assert report.to_dict()["seed"] == seed
    assert ins.run(resume_from=tmp_path, episodes=2, depth=2)[0].to_dict() == report.to_dict()
    assert (
        ins.run(GRID, **small | {"seed": seed + 1})[0].errors["value"].tolist()
        != report.errors["value"].tolist()
    )


def test_the_folder_holds_a_training(finished, no_training):
    folder = finished[0]
    with pytest.raises(BookError, match="holds a training already"):
        ins.run(GRID, out=folder)
    with pytest.raises(BookError, match="leave out env, seed"):
        ins.run(GRID, seed=1, resume_from=folder)


def test_a_damaged_checkpoint(finished, tmp_path):
    whole = (finished[0] / checkpoints.NAME).read_bytes()
    (tmp_path / checkpoints.NAME).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BookError, match="damaged"):
        ins.run(resume_from=tmp_path)
    with pytest.raises(BookError, match="no checkpoint at"):
        ins.run(resume_from=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"env": "Pendulum-v1"}, "continuous"),
        ({"env": "NoSuchEnv-v0"}, "unknown environment"),
        ({"unroll_steps": 0}, "unroll_steps must be at least 1"),
        ({"simulations": 0}, "simulations must be at least 1"),
        ({"env_steps": 2.5}, "env_steps must be a whole number"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"gamma": 1.5}, "gamma must lie in"),
        ({"episodes": 1}, "episodes must be at least 2"),
        ({"depth": 0}, "depth must be at least 1"),
        ({"reward_low": 2.0, "reward_high": 1.0}, "reward_low"),
        ({"env": None}, "name an environment"),
    ],
)
def test_bad_input_trains_and_writes_nothing(no_training, tmp_path, options, message):
    with pytest.raises(BookError, match=message):
        ins.run(**({"env": GRID, "out": tmp_path / "x"} | options))
    assert not (tmp_path / "x").exists()


def test_a_folder_that_is_a_file(no_training, tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(BookError, match="is a file"):
        ins.run(GRID, out=tmp_path / "x")


def test_measure_wants_a_training():
    with pytest.raises(BookError, match="what train or resume return"):
        ins.measure("agent")
