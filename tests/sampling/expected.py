"""What the tests expect of chapters/03-sampling-divergence.ipynb."""

import pytest

PAGE = "03-sampling-divergence"

# Parameters that make the page quick: fewer repetitions, shorter runs. What is not named keeps its default.
QUICK = {"languages": 5, "sequences": 2}

# Other settings that a reader may try; they are added to the quick ones, and the page must run through.
OTHER = {"rule": "temperature=0.8", "seed": 1}

# Values of claims with quick parameters: exact ones to rounding, estimates within what repetitions move them.
EXPECTED = {
    "samp-exact": pytest.approx(7.99, abs=0.05),
    # the stored studies
    "samp-diverge": pytest.approx(0.066, abs=0.001),
    "samp-base": pytest.approx(-0.63, abs=0.01),
    "samp-heuristics": 0,
    "samp-beam": pytest.approx(1.80, abs=0.01),
    "samp-teacher": pytest.approx(0.35, abs=0.03),
    "scale-supervised": pytest.approx(-0.007, abs=0.002),
}

# The verdicts that follow from them.
VERDICTS = {
    **dict.fromkeys(("samp-exact", "samp-diverge", "scale-supervised"), "holds when"),
    "samp-teacher": "holds",
    **dict.fromkeys(("samp-heuristics", "samp-beam"), "does not hold"),
    "samp-base": "open",
}

# Texts that the prose shows, with quick parameters.
TEXTS = {
    "exact-cells": "25",
    "star-naive": "0.58",
    "beam-ratio": "1.8",
    "book-parameters": "6.2",
    "study-prompts": "64",
}

# Parameters that cannot be right, and the one line that says so.
WRONG = [
    ({"step": 256}, "unknown parameter 'step'; did you mean 'steps'"),
    ({"steps": 100}, "steps must be a multiple of 64 from 256 to 1,024, got 100"),
    ({"rule": "top-p=1.3"}, "top-p must be above 0 and at most 1"),
    ({"rule": "beam=4"}, "there is no decoding rule 'beam=4'; there are pure, greedy"),
    ({"model": "smollm3"}, "there is no model 'smollm3'; use smollm2, book"),
    ({"sequences": 0}, "sequences must be at least 2, got 0"),
]
