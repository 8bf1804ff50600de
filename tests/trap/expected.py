"""What the tests expect of chapters/01-one-step-trap.ipynb."""

import pytest

PAGE = "01-one-step-trap"

# Parameters that make the page quick: fewer repetitions, shorter runs. What is not named keeps its default.
QUICK = {"random_chains": 100, "instances": 10_000, "mdps": 20, "transitions": 1_000}

# Other settings that a reader may try; they are added to the quick ones, and the page must run through.
OTHER = {"eps": 0.01, "seed": 1, "env": "Acrobot-v1", "unroll_steps": 2}

# Values of claims with quick parameters: exact ones to rounding, estimates within what repetitions move them.
EXPECTED = {
    "trap-perfect": pytest.approx(0, abs=1e-11),
    "trap-compound": 3,
    "trap-bounds": 0,
    "trap-affordable": pytest.approx(0.0486, abs=1e-3),
    "trap-misspecified": pytest.approx(0.0138, abs=2e-3),
    "trap-exponential": pytest.approx(3, abs=1e-3),
    "trap-imitation": pytest.approx(1.91, abs=0.02),
    "trap-planning": pytest.approx(2.3, abs=0.4),
    "trap-real": 3,  # the stored studies
}

# The verdicts that follow from them.
VERDICTS = {
    **dict.fromkeys(("trap-perfect", "trap-compound", "trap-affordable", "trap-exponential"), "holds when"),
    **dict.fromkeys(("trap-misspecified", "trap-imitation", "trap-real"), "holds when"),
    "trap-planning": "holds when",
    "trap-kstep": "does not hold",
    "trap-bounds": "holds",
}

# Texts that the prose shows, with quick parameters.
TEXTS = {
    "lost-32": "25",
    "lost-64": "53",
    "leak-value": "50.25",
    "k-star": "230",
    "walk-limit": "0.752",
    "identical": "1,000",
}

# Parameters that cannot be right, and the one line that says so.
WRONG = [
    ({"chains": 200}, "unknown parameter 'chains'; did you mean 'random_chains'"),
    ({"eps": 0.3}, "eps must be one part in a whole number from 10 to 10⁶"),
    ({"eps": 0.0007}, "eps must be one part in a whole number from 10 to 10⁶"),
    ({"unroll_steps": 0}, "unroll_steps must be at least 1, got 0"),
    ({"env": "Pendulum-v9"}, "unknown environment 'Pendulum-v9': did you mean"),
    ({"env": "FrozenLake-v1"}, "FrozenLake-v1 has observations of type Discrete"),
    ({"random_chains": 50}, "random_chains must be at least 100, got 50"),
]
