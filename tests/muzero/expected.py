"""What the tests expect of chapters/04-muzero-unrolling.ipynb."""

import pytest

PAGE = "04-muzero-unrolling"

# Parameters that make the page quick: fewer repetitions, shorter runs. What is not named keeps its default.
QUICK = {"env_steps": 1_000, "live": 0.1, "worlds": 30}

# Other settings that a reader may try; they are added to the quick ones, and the page must run through.
OTHER = {"unroll_steps": 1, "training_seed": 3, "simulations": 12, "seed": 1}

# Values of claims with quick parameters: exact ones to rounding, estimates within what repetitions move them.
EXPECTED = {
    "mu-five": 5,
    "mu-stochastic": pytest.approx(28, abs=12),
    # the stored studies
    "mu-diverge": pytest.approx(6.82, abs=0.01),
    "mu-control": pytest.approx(-49.8, abs=0.1),
    "mu-openloop": pytest.approx(9.8, abs=0.1),
    "mu-offpolicy": pytest.approx(1.08, abs=0.01),
    "scale-search": pytest.approx(0.038, abs=0.001),
}

# The verdicts that follow from them.
VERDICTS = {
    **dict.fromkeys(("mu-five", "mu-stochastic"), "holds"),
    **dict.fromkeys(("mu-diverge", "scale-search"), "holds when"),
    **dict.fromkeys(("mu-control", "mu-offpolicy"), "does not hold"),
    "mu-openloop": "open",
}

# Texts that the prose shows, with quick parameters.
TEXTS = {
    "hand-turn": "13",
    "hand-lefts": "10",
    "cells-all": "24",
    "cells-yes": "17",
    "knee-5": "10",
}

# Parameters that cannot be right, and the one line that says so.
WRONG = [
    ({"unroll_steps": 0}, "unroll_steps must be at least 1, got 0"),
    ({"unroll_steps": 3}, "unroll_steps must be one of 1, 2, 5, 10, 20"),
    ({"env": "Pendulum-v1"}, "Pendulum-v1 has actions that are continuous"),
    ({"unrol_steps": 5}, "unknown parameter 'unrol_steps'; did you mean 'unroll_steps'"),
    ({"simulations": 0}, "simulations must be at least 1, got 0"),
]
