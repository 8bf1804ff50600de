import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from engines import needs_box2d
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from one_step_trap import cli
from one_step_trap.cli import app
from one_step_trap.errors import BookError

PROGRAM = str(Path(sys.executable).with_name("one-step-trap"))


def run(*arguments, **options):
    """Run the installed command as a person would."""
    return subprocess.run(
        [PROGRAM, *arguments], capture_output=True, check=False, **({"text": True} | options)
    )


def invoke(*arguments):
    """Run the same command in this process."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if isinstance(result.exception, BookError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_installed_command():
    result = run("discount", "--gamma", "0.99", "--steps", "500", "--steps", "1000")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["effective", "horizon", "100.0", "steps"] in rows
    assert ["half-life", "69.0", "steps"] in rows
    assert ["500", "6.57e-03", "99.3%"] in rows
    assert ["1000", "4.32e-05", "100.0%"] in rows or ["1,000", "4.32e-05", "100.0%"] in rows


def test_json_has_all_digits():
    report = json.loads(invoke("discount", "--gamma", 0.99, "--steps", 500, "--steps", 1000, "--json"))
    assert report["weight_left"] == pytest.approx([0.99**500, 0.99**1000], rel=1e-12)
    assert report["effective_horizon"] == pytest.approx(100)
    assert report["half_life"] == pytest.approx(math.log(0.5) / math.log(0.99))
    assert report["mass_within"] == pytest.approx([1 - 0.99**500, 1 - 0.99**1000])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 10**6), st.floats(1e-6, 0.999))
def test_reach_is_the_inverse_of_discount(steps, weight):
    gamma = json.loads(invoke("discount", "--reach", steps, "--weight", weight, "--json"))["gamma"]
    left = json.loads(invoke("discount", "--gamma", repr(gamma), "--steps", steps, "--json"))["weight_left"]
    assert left[0] == pytest.approx(weight, rel=1e-8)


def test_half_is_the_weight_unless_another_is_asked_for():
    assert invoke("discount", "--reach", 1000) == invoke("discount", "--reach", 1000, "--weight", 0.5)
    assert "gamma = 0.9993071" in invoke("discount", "--reach", 1000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gamma", "1.2"], "--gamma must lie in [0, 1], got 1.2"),
        (["--gamma", "nan"], "--gamma must be a finite number, got nan"),
        (["--gamma", "1"], "--gamma = 1 is defined only where episodes end"),
        (["--gamma", "0.9", "--steps", "0"], "--steps must be at least 1, got 0"),
        (["--gamma", "0.9", "--steps", "2.5"], "--steps must be a whole number, got 2.5"),
        (["--gamma", "0.9", "--steps", "inf"], "--steps must be a finite number, got inf"),
        (["--gamma", "0.9", "--weight", "0.5"], "--weight goes with --reach"),
        (["--gamma", "0.9", "--reach", "9"], "give either --gamma"),
        ([], "give either --gamma"),
        (["--reach", "0"], "--reach must be at least 1, got 0"),
        (["--reach", "1000", "--weight", "0"], "--weight must lie in (0, 1], got 0"),
        (["--reach", "1000", "--weight", "2"], "--weight must lie in (0, 1], got 2"),
        (["--reach", "1000", "--steps", "9"], "--steps goes with --gamma"),
        (["--reach", "1e17"], "--reach = 1e+17 is too far"),
        (["--gamma", "0.99999999999999999"], "--gamma = 1 is defined only where episodes end"),
    ],
)
def test_what_cannot_be_asked(arguments, message):
    with pytest.raises(BookError) as caught:
        invoke("discount", *arguments)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("arguments", [["discount", "--gamma", "1.2"], ["claims", "--file", "nowhere.json"]])
def test_an_error_is_one_line_on_stderr_and_status_2(arguments):
    result = run(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [["discount", "--gamma", "much"], ["discount", "--gama", "0.9"], ["dicount"]]
)
def test_a_mistyped_command_has_status_2_and_no_stack(arguments):
    result = run(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert arguments[-1] in result.stderr or arguments[-2] in result.stderr


def test_the_module_is_the_command():
    result = subprocess.run(
        [sys.executable, "-m", "one_step_trap.cli", "--help"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0
    assert "discount" in result.stdout
    assert "claims" in result.stdout


ROW = {
    **{"id": "disc-500", "statement": "It decays to 6e-3.", "source": "post", "chapter": "02-discounting"},
    **{
        "tested": "arithmetic",
        "expected": "holds",
        "value": 0.00657,
        "low": 0.00657,
        "high": 0.00657,
        "n": 1,
    },
    **{"unit": "weight left", "verdict": "holds", "condition": "", "rule": "rounds to 7e-3", "figure": ""},
    "ends": "95% interval",
}


@pytest.fixture
def ledger(tmp_path):
    """A ledger with one row, as ``make book`` writes it."""
    path = tmp_path / "claims.json"
    path.write_text(json.dumps([ROW]))
    return path


def test_the_ledger_for_a_person(ledger):
    out = invoke("claims", "--file", ledger)
    assert out == "disc-500: It decays to 6e-3. (post)\n  0.00657 weight left (n = 1): holds\n"


def test_the_ledger_for_a_program(ledger):
    assert json.loads(invoke("claims", "--file", ledger, "--json")) == [ROW]


def test_the_ledger_of_the_working_folder(ledger):
    (ledger.parent / "_build").mkdir()
    ledger.rename(ledger.parent / "_build" / "claims.json")
    assert run("claims", cwd=ledger.parent).stdout.startswith("disc-500: ")


def test_a_reader_that_stops_early_is_no_error(ledger):
    ledger.write_text(json.dumps([ROW] * 2_000))
    command = f"{PROGRAM} claims --file {ledger} | head -n 1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert result.stdout.startswith("disc-500: ")
    assert result.stderr == ""


# --- what becomes of the output ---------------------------------------------------------------------------

FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
SPOKEN = ROW | {"statement": "It decays — to π·10⁻³, “really” 😀."}


def ended(monkeypatch, arguments, stdout, stderr):
    """Run the command in this process with other streams; return its exit status."""
    monkeypatch.setattr(sys, "argv", ["one-step-trap", *map(str, arguments)])
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(sys, "stderr", stderr)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    for stream in {stdout, stderr} - {None}:
        stream.flush()  # as Python does when it ends: nothing is left that could fail
    return caught.value.code or 0


def terminal(path, encoding="utf-8", buffering=-1):
    """Open a stream as Python opens stdout: strict about what it cannot encode."""
    return open(path, "w", encoding=encoding, buffering=buffering)


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("ascii", "It decays ? to ??10"), ("latin-1", "It decays ? to ?·10"), ("utf-8", "decays — to π·10⁻³")],
)
def test_a_terminal_without_the_characters(ledger, tmp_path, monkeypatch, encoding, shown):
    ledger.write_text(json.dumps([SPOKEN]))
    for more in ([], ["--json"]):
        with terminal(tmp_path / "out", encoding) as out, terminal(tmp_path / "err", encoding) as err:
            assert ended(monkeypatch, ["claims", "--file", ledger, *more], out, err) == 0
        said = (tmp_path / "out").read_text(encoding)
        assert (tmp_path / "err").read_text(encoding) == ""
        if more:
            assert json.loads(said) == [SPOKEN]  # nothing is lost for a program
        else:
            assert shown in said
    with terminal(tmp_path / "out", encoding) as out, terminal(tmp_path / "err", encoding) as err:
        assert ended(monkeypatch, ["claims", "--file", "–"], out, err) == 2
    assert (tmp_path / "err").read_text(encoding).startswith("error: there is no ledger at ")


@FULL
@pytest.mark.parametrize("buffering", [-1, 1])
@pytest.mark.parametrize("arguments", [["discount", "--gamma", "0.9"], ["--help"], ["claims", "--file"]])
def test_a_full_disk_behind_the_output_is_one_line(arguments, buffering, ledger, tmp_path, monkeypatch):
    ledger.write_text(json.dumps([ROW] * 500))  # more than fits into a buffer
    arguments = [*arguments, ledger] if arguments[0] == "claims" else arguments
    with terminal("/dev/full", buffering=buffering) as full, terminal(tmp_path / "err") as err:
        assert ended(monkeypatch, arguments, full, err) == 1
    said = (tmp_path / "err").read_text()
    assert said == "error: the output cannot be written: No space left on device\n"
    with terminal("/dev/full", buffering=buffering) as full:
        assert ended(monkeypatch, arguments, full, full) == 1  # nobody to tell it to


@FULL
def test_an_error_where_the_disk_is_full(tmp_path, monkeypatch):
    with terminal("/dev/full") as full, terminal(tmp_path / "err") as err:
        assert ended(monkeypatch, ["discount", "--gamma", "2"], full, err) == 2
    assert (tmp_path / "err").read_text().startswith("error: ")
    with terminal(tmp_path / "out") as out, terminal("/dev/full") as full:
        assert ended(monkeypatch, ["discount", "--gamma", "2"], out, full) == 2


def test_streams_that_are_closed(tmp_path, monkeypatch):
    with terminal(tmp_path / "err") as err:
        assert ended(monkeypatch, ["discount", "--gamma", "0.9"], None, err) == 1
    assert (tmp_path / "err").read_text() == "error: the output cannot be written: it is closed\n"
    with terminal(tmp_path / "out") as out:
        assert ended(monkeypatch, ["discount", "--gamma", "2"], out, None) == 2
    assert (tmp_path / "out").read_text() == ""  # where print would have put the error


def test_a_mistake_of_ours_is_no_lost_output(monkeypatch):
    monkeypatch.setattr(cli, "app", lambda: Path("/no/such/file").read_bytes())
    with pytest.raises(FileNotFoundError):
        cli.main()


@pytest.mark.parametrize(
    ("streams", "status", "said"),
    [
        pytest.param(
            "> /dev/full", 1, "error: the output cannot be written: No space left on device\n", marks=FULL
        ),
        (">&-", 1, "error: the output cannot be written: it is closed\n"),
    ],
)
def test_the_installed_command_without_output(streams, status, said):
    command = ["bash", "-c", f"{PROGRAM} discount --gamma 0.9 {streams}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (status, "", said)


def test_the_trap_on_an_environment(tmp_path):
    options = ["--env", "Pendulum-v1", "--unroll", "2", "--transitions", "100", "--depth", "5", "--seed", "3"]
    options += ["--updates", "20"]
    result = run("trap", *options, "--out", str(tmp_path / "out"), "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["seeds"] == [3]
    assert report["models"][0]["unroll"] == 2
    assert report["models"][0]["steps_to_one_sd"]["limit"] == 5
    assert "training through 2 steps, seed 3" in result.stderr
    stored = tmp_path / "out" / "trap-Pendulum-v1.json"
    assert f"wrote {stored}" in result.stderr
    assert json.loads(stored.read_text()) == report
    with pytest.raises(BookError, match="is there already"):
        invoke("trap", *options, "--out", tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env", "Pendulm-v1"], "unknown environment 'Pendulm-v1'"),
        (["--env", "FrozenLake-v1"], "FrozenLake-v1 has observations of type Discrete"),
        pytest.param(["--env", "CarRacing-v3"], "CarRacing-v3 has observations of shape", marks=needs_box2d),
        (["--env", "Pendulum-v1", "--unroll", "0"], "unroll must be at least 1, got 0"),
        (["--env", "Pendulum-v1", "--transitions", "5"], "transitions must be at least 100"),
        (["--env", "Pendulum-v1", "--transitions", "100", "--depth", "500"], "depth 500 is longer than any"),
        (["--env", "Pendulum-v1", "--policy", "best"], "policy must be one of"),
    ],
)
def test_what_the_trap_refuses(arguments, message):
    with pytest.raises(BookError) as caught:
        invoke("trap", *arguments)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_muzero_on_an_environment_and_resumed(tmp_path):
    options = ["--env", "one-step-trap/DeterministicGrid-v0", "--unroll-steps", "2", "--seed", "3"]
    options += ["--env-steps", "600", "--simulations", "4"]
    result = run("muzero", *options, "--out", str(tmp_path / "out"), "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["unroll_steps"], report["seed"], report["simulations"]) == (2, 3, 4)
    assert report["mean_return"]["n"] == len(report["returns"]) == 50
    assert report["prediction_errors"]["agent"]["value"]["depth"][0] == 0
    assert "100%  608 steps" in result.stderr
    stored = tmp_path / "out" / "muzero-one-step-trap-DeterministicGrid-v0.json"
    assert f"wrote {stored}" in result.stderr
    assert json.loads(stored.read_text()) == report
    again = json.loads(invoke("muzero", "--resume", tmp_path / "out", "--json"))
    assert again == report  # a finished training is reported again
    with pytest.raises(BookError, match="holds a training already"):
        invoke("muzero", *options, "--out", tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name an environment, such as CartPole-v1"),
        (["--env", "Pendulum-v1"], "Pendulum-v1 has actions that are continuous"),
        (["--env", "CartPol-v1"], "unknown environment 'CartPol-v1': did you mean CartPole-v1"),
        pytest.param(["--env", "CarRacing-v3"], "CarRacing-v3 has actions that are", marks=needs_box2d),
        (["--env", "CartPole-v1", "--unroll-steps", "0"], "unroll_steps must be at least 1, got 0"),
        (["--env", "CartPole-v1", "--simulations", "0"], "simulations must be at least 1, got 0"),
        (["--env", "CartPole-v1", "--gamma", "1.2"], "gamma must lie in"),
        (["--env", "CliffWalking-v1", "--gamma", "1"], "gamma = 1 is not defined in CliffWalking-v1"),
        (["--resume", "no-such-folder"], "there is no checkpoint"),
        (["--resume", "no-such-folder", "--seed", "3"], "a resumed training has its own settings"),
    ],
)
def test_what_muzero_refuses(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BookError) as caught:
        invoke("muzero", *arguments)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_other_commands_do_not_wait_for_torch():
    code = "import sys; import one_step_trap.cli; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"
