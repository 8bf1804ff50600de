"""The chapter's own checks: what passes, what is refused, and that a message is one line."""

import numpy as np
import pandas as pd
import pytest

from one_step_trap.core import validate as checks
from one_step_trap.errors import BookError


def test_what_is_right_comes_back():
    assert checks.check_kind("a", str, "name") == "a"
    assert checks.check_flag(np.bool_(True), "once") is True
    assert checks.check_choice("a", {"a": 1, "b": 2}, "method") == "a"
    assert checks.check_list((n for n in (1, 2)), "n") == [1, 2]
    assert checks.check_list({"a": 1}.values(), "n") == [1]
    assert checks.check_list(np.array([0.5]), "n") == [0.5]
    assert checks.check_list([], "n", empty=True) == []
    assert checks.check_kinds(("a",), str, "names", most=1) == ["a"]
    assert checks.check_at_least_zero(0, "noise") == 0.0
    assert checks.check_gammas(0.5).tolist() == [0.5]
    assert checks.check_gammas((0, 0.9)).tolist() == [0, 0.9]
    assert checks.check_positions([], "policy", below=0).shape == (0,)
    positions = checks.check_positions(np.array([[0, 2]], dtype=np.int8), "policy", below=3, shape=(1, 2))
    assert positions.dtype == np.intp
    table = pd.DataFrame({"a": [1], "b": [2]})
    assert checks.check_table(table, ["b"], "runs") is table
    checks.check_callable(len, "policy")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: checks.check_kind(3, str, "name", made_by="repr"),
            r"^name must be of the kind str \(made by repr\), got 3$",
        ),
        (lambda: checks.check_flag(1, "once"), "^once must be True or False, got 1$"),
        (lambda: checks.check_callable("f", "policy"), "^policy must be a function, got 'f'$"),
        (lambda: checks.check_choice("c", ("a", "b"), "method"), "^method must be one of a, b, got 'c'$"),
        (lambda: checks.check_choice(["a"], ("a", "b"), "method"), "method must be one of"),
        (lambda: checks.check_list(0.5, "gammas"), r"^gammas must be a list, got 0\.5$"),
        (lambda: checks.check_list("abc", "gammas"), "gammas must be a list"),
        (lambda: checks.check_list({1, 2}, "gammas"), "gammas must be a list"),
        (lambda: checks.check_list({}, "gammas"), "gammas must be a list"),
        (lambda: checks.check_list(np.eye(9), "gammas"), r"gammas must be a list, got array.*\.\.\.$"),
        (lambda: checks.check_list([], "gammas"), "^gammas must hold at least one entry, got none$"),
        (lambda: checks.check_kinds(["a", 1], str, "names"), "every entry of names must be of the kind str"),
        (lambda: checks.check_kinds("ab", str, "names"), "names must be a list"),
        (lambda: checks.check_kinds(["a"] * 3, str, "names", most=2), "names must hold at most 2 entries"),
        (lambda: checks.check_at_least_zero(-1, "noise"), "^noise must be at least 0, got -1$"),
        (lambda: checks.check_at_least_zero("x", "noise"), "noise must be a number"),
        (lambda: checks.check_gammas([]), "one or more discounts"),
        (lambda: checks.check_gammas([[0.5]]), "one or more discounts"),
        (lambda: checks.check_gammas([0.5, 1]), "gamma = 1"),
        (lambda: checks.check_gammas([0.5, np.nan]), "gammas holds NaN"),
        (lambda: checks.check_positions([True, False], "decisions", below=2), "not True and False"),
        (lambda: checks.check_positions([0.0, 1.0], "decisions", below=2), "must hold integers"),
        (lambda: checks.check_positions([0.5], "decisions", below=2), "must hold integers"),
        (lambda: checks.check_positions(["a"], "decisions", below=2), "must hold integers"),
        (lambda: checks.check_positions([[0], [0, 1]], "decisions", below=2), "lists of unlike length"),
        (
            lambda: checks.check_positions([0, 2], "decisions", below=2),
            r"^decisions must lie in 0\.\.1, got 2$",
        ),
        (lambda: checks.check_positions([0, -1], "decisions", below=2), r"must lie in 0\.\.1, got -1$"),
        (lambda: checks.check_positions([0], "policy", below=2, shape=(2,)), r"shape \(2,\), got \(1,\)"),
        (lambda: checks.check_table([1], ["a"], "runs"), "^runs must be a pandas.DataFrame, got"),
        (
            lambda: checks.check_table(pd.DataFrame({"a": [1]}), ["a", "c", "b"], "runs"),
            "lacks the columns b, c",
        ),
        (lambda: checks.check_table(pd.DataFrame({"a": []}), ["a"], "runs"), "^runs has no rows$"),
    ],
)
def test_what_is_wrong_is_one_line(call, message):
    with pytest.raises(BookError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
