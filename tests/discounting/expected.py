"""What the tests expect of chapters/02-discounting.ipynb."""

import math

import pytest

PAGE = "02-discounting"

# Parameters that make the page quick: fewer repetitions, shorter runs. What is not named keeps its default.
QUICK = {
    **{"episodes": 20, "returns": 2_000, "mdps": 40, "walk_runs": 20},
    **{"planning_mdps": 60, "data_sets": 5, "delayed_seeds": 1},
}

# Other settings that a reader may try; they are added to the quick ones, and the page must run through.
OTHER = {"gamma": 0.95, "seed": 1}

# Values of claims with quick parameters: exact ones to rounding, estimates within what repetitions move them.
EXPECTED = {
    "disc-500": pytest.approx(0.99**500, rel=1e-12),
    "disc-gym": pytest.approx(13 / 27),  # the registry of the pinned Gymnasium
    "disc-essay": pytest.approx(1226.25),  # the essays of the pinned package
    "disc-variance": pytest.approx(1.01, abs=0.03),
    "disc-nstep": pytest.approx(0.085, abs=0.03),
    "disc-planning": pytest.approx(0.5, abs=0.2),
    "disc-delayed": pytest.approx(0.56),  # the stored study
    "disc-blackwell": pytest.approx(10 / 11, abs=1e-12),
    "disc-hyperbolic": pytest.approx(0.0136, rel=0.01),
    "disc-regulariser": pytest.approx(0, abs=1e-9),
}

# The verdicts that follow from them.
VERDICTS = {
    **dict.fromkeys(("disc-500", "disc-planning", "disc-regulariser"), "holds"),
    **dict.fromkeys(("disc-gym", "disc-essay", "disc-variance", "disc-nstep"), "holds when"),
    **dict.fromkeys(("disc-delayed", "disc-blackwell", "disc-hyperbolic"), "holds when"),
}

# Texts that the prose shows, with quick parameters.
TEXTS = {
    "disc-500.value": "0.00657",
    "left-500": "6.57e-3",
    "half-life": "69",
    "gamma-1000": "0.99931",
    "gamma-bonus": "0.99904",
    "wait-99": "10.5",
    "ratio-500": "151",
    "essay-gamma": "0.99947",
    "muzero-horizon": "333",
    "bw-last": "0.99990",
}

# Parameters that cannot be right, and the one line that says so.
WRONG = [
    ({"gama": 0.95}, "unknown parameter 'gama'; did you mean 'gamma'"),
    ({"gamma": 1.2}, "gamma must lie in [0, 1], got 1.2"),
    ({"gamma": math.nan}, "gamma must be a finite number, got nan"),
    ({"gamma": 1}, "gamma = 1 is defined only where episodes end"),
    ({"gamma": "0.9"}, "gamma must be a number, got '0.9'"),
    ({"horizon": 0}, "horizon must be at least 1, got 0"),
    ({"seed": -1}, "seed must be at least 0, got -1"),
]
