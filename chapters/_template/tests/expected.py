"""What the tests expect of chapters/07-ripples.ipynb."""

import pytest

PAGE = "07-ripples"

# Parameters that make the page quick: fewer repetitions, shorter runs. What is not named keeps its default.
QUICK = {"ripples": 50}

# Other settings that a reader may try; they are added to the quick ones, and the page must run through.
OTHER = {"keep": 0.89, "seed": 1}

# Values of claims with quick parameters: exact ones to rounding, estimates within what repetitions move them.
EXPECTED = {"ripple-half": pytest.approx(6.58, abs=0.05)}

# The verdicts that follow from them, with the quick parameters, with the other settings, and in the book.
VERDICTS = {"ripple-half": "holds"}

# Texts that the prose shows, with quick parameters.
TEXTS = {"formula": "6.58"}

# Parameters that cannot be right, and the one line that says so.
WRONG = [
    ({"kep": 0.9}, "unknown parameter 'kep'; did you mean 'keep'"),
    ({"ripples": 3}, "ripples must be at least 30, got 3"),
]
