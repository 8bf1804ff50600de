"""The command line: the same functions as the chapters, for a number in a hurry."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn, TextIO

import typer

from one_step_trap.core.validate import check_count, check_gamma
from one_step_trap.discounting import weights
from one_step_trap.errors import BookError
from one_step_trap.ledger import claims as ledger

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Instruments of the book on the one-step trap.",
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def _root() -> None:
    """Instruments of the book on the one-step trap."""


def show(report: weights.DiscountReport | weights.ReachReport, as_json: bool) -> None:
    """Print a report for a person or for a program."""
    print(json.dumps(report.to_dict(), indent=1) if as_json else report)


@app.command()
def discount(
    gamma: Annotated[float | None, typer.Option(help="Discount per step, in [0, 1).")] = None,
    steps: Annotated[list[float] | None, typer.Option(help="Distance to look at; may be repeated.")] = None,
    reach: Annotated[
        float | None, typer.Option(help="Instead: a distance that the weight should reach.")
    ] = None,
    weight: Annotated[
        float | None, typer.Option(help="With --reach: the weight to be left there (0.5).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say how far a discount looks (--gamma), or which discount looks that far (--reach)."""
    if (gamma is None) == (reach is None):
        raise BookError(
            "give either --gamma (how far does it look?) or --reach (which discount looks that far?)"
        )
    if gamma is not None:
        if weight is not None:
            raise BookError("--weight goes with --reach; with --gamma, ask with --steps")
        distances = [check_count(step, "--steps") for step in steps or []]
        show(weights.describe(check_gamma(gamma, name="--gamma"), distances), as_json)
    elif reach is not None:
        if steps:
            raise BookError("--steps goes with --gamma; with --reach, the distance is the number given there")
        distance, left = check_count(reach, "--reach"), 0.5 if weight is None else weight
        show(weights.reach(distance, left, names=("--reach", "--weight")), as_json)


@app.command()
def trap(
    env: Annotated[str, typer.Option(help="Id of a Gymnasium environment with vector observations.")],
    unroll: Annotated[
        list[int] | None, typer.Option(help="Steps to train through; may be repeated (1 and 5).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of data, networks and twins.")] = 0,
    transitions: Annotated[int, typer.Option(help="Real transitions to learn from.")] = 20_000,
    repeats: Annotated[int, typer.Option(help="Seeds, from --seed on; intervals are then over seeds.")] = 1,
    depth: Annotated[
        int | None, typer.Option(help="Steps to roll out (200, or the longest episode).")
    ] = None,
    policy: Annotated[str, typer.Option(help="Actions to learn from: random, held, scripted.")] = "random",
    evaluate: Annotated[
        str | None, typer.Option(help="Actions to roll out along; by default those of --policy.")
    ] = None,
    updates: Annotated[int, typer.Option(help="Steps of the optimiser for each model.")] = 3_000,
    out: Annotated[Path | None, typer.Option(help="Folder for figures, curves and report.")] = None,
    as_json: AsJson = False,
) -> None:
    """Train world models on an environment and say after how many steps they have left it."""
    from one_step_trap.trap import instrument  # here, as it brings torch: the other commands stay quick

    options: dict[str, Any] = {"unroll": unroll or (1, 5), "seed": seed, "transitions": transitions}
    options |= {"repeats": repeats, "depth": depth, "policy": policy, "evaluate": evaluate}
    options["updates"] = updates
    report, written = instrument.run(
        env, out=out, progress=lambda line: print(line, file=sys.stderr), **options
    )
    print(json.dumps(report.to_dict(), indent=1, allow_nan=False) if as_json else report)
    for path in written:
        print(f"wrote {path}", file=sys.stderr)


@app.command()
def sample(
    model: Annotated[str, typer.Option(help="smollm2, book, a directory, or a hub id.")] = "smollm2",
    rule: Annotated[
        list[str] | None,
        typer.Option(help="Decoding rule; may be repeated (pure, temperature=0.7, top-p=0.95, greedy)."),
    ] = None,
    steps: Annotated[int, typer.Option(help="Tokens to draw after each prompt.")] = 256,
    sequences: Annotated[
        int | None, typer.Option(help="Passages to go on from (8, or all of --prompts).")
    ] = None,
    prompt_length: Annotated[int, typer.Option(help="Tokens of a passage that are the prompt.")] = 128,
    prompts: Annotated[
        Path | None, typer.Option(help="File of passages, a line --- between two; by default the book's.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    seeds: Annotated[int, typer.Option(help="How many seeds, from --seed on.")] = 1,
    device: Annotated[str | None, typer.Option(help="cpu or cuda (a GPU where there is one).")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for figures, table of texts and report.")] = None,
    as_json: AsJson = False,
) -> None:
    """Let a language model write by several rules and say how far it drifts from text that people write."""
    from one_step_trap.sampling import instrument  # here, as it brings torch: the other commands stay quick

    options: dict[str, Any] = {"rules": rule or instrument.RULES, "steps": steps, "sequences": sequences}
    options |= {"prompt_length": prompt_length, "prompts": prompts, "seed": seed, "seeds": seeds}
    report, written = instrument.run(
        model, device=device, out=out, progress=lambda line: print(line, file=sys.stderr), **options
    )
    print(json.dumps(report.to_dict(), indent=1, allow_nan=False) if as_json else report)
    for path in written:
        print(f"wrote {path}", file=sys.stderr)


@app.command()
def muzero(
    env: Annotated[
        str | None, typer.Option(help="Gymnasium id with discrete actions and a vector to observe.")
    ] = None,
    unroll_steps: Annotated[int | None, typer.Option(help="Steps K unrolled in training (5).")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the training (0).")] = None,
    env_steps: Annotated[int | None, typer.Option(help="Environment steps of the training.")] = None,
    simulations: Annotated[int | None, typer.Option(help="Simulations of a search.")] = None,
    gamma: Annotated[float | None, typer.Option(help="Discount per step.")] = None,
    reward_low: Annotated[
        float | None, typer.Option(help="Lowest reward of a step, where it is not known.")
    ] = None,
    reward_high: Annotated[float | None, typer.Option(help="Highest reward of a step.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Folder of a training to go on with.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for checkpoints, figures and report.")] = None,
    as_json: AsJson = False,
) -> None:
    """Train MuZero, say how well it plays and how far its model can be unrolled."""
    from one_step_trap.muzero import instrument  # here, as it brings torch: the other commands stay quick

    options: dict[str, Any] = {"unroll_steps": unroll_steps, "seed": seed, "env_steps": env_steps}
    options |= {
        "simulations": simulations,
        "gamma": gamma,
        "reward_low": reward_low,
        "reward_high": reward_high,
    }
    report, written = instrument.run(
        env, out=out, resume_from=resume, progress=lambda line: print(line, file=sys.stderr), **options
    )
    print(json.dumps(report.to_dict(), indent=1, allow_nan=False) if as_json else report)
    for path in written:
        print(f"wrote {path}", file=sys.stderr)


@app.command()
def claims(
    file: Annotated[Path, typer.Option(help="Ledger written by `make book`.")] = Path("_build/claims.json"),
    as_json: AsJson = False,
) -> None:
    """Print the ledger: every claim with its number, interval and verdict."""
    rows = ledger.read_ledger(file)
    print(json.dumps(rows, indent=1) if as_json else "\n\n".join(map(claim_text, rows)))


def claim_text(row: dict[str, Any]) -> str:
    """Return one row of the ledger for a terminal."""
    found = ledger.Claim(**{name: row[name] for name in ledger.Claim.model_fields})
    return f"{row['id']}: {row['statement']} ({row['source']})\n  {found.summary()}"


def main() -> None:
    """Run the command line: input that cannot be right is one line on stderr and exit status 2, lost output exit status 1."""
    _prepare_output()
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # here, where it can still be told if it fails
    except BookError as error:
        _stop(str(error), 2)
    except OSError as error:
        if error.filename is not None:  # then it is about that file, and a mistake of ours
            raise
        _forget(sys.stdout)
        if isinstance(error, BrokenPipeError):  # its reader stopped early (| head), which is no error
            raise SystemExit(1) from None
        _stop(f"the output cannot be written: {error.strerror or error}", 1)


def _prepare_output() -> None:
    """Let a terminal show a question mark where it lacks a character, and bear that stdout or stderr is closed."""
    if sys.stderr is None:  # print would take stdout instead
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    if sys.stdout is None:
        _stop("the output cannot be written: it is closed", 1)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _stop(line: str, status: int) -> NoReturn:
    """End with one line on stderr, where it can be written, and an exit status."""
    try:
        print(f"error: {line}", file=sys.stderr, flush=True)
    except OSError:
        _forget(sys.stderr)
    raise SystemExit(status) from None


def _forget(output: TextIO) -> None:
    """Let what was printed and not written go nowhere: Python would try once more as it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())


if __name__ == "__main__":
    main()
