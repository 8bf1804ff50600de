import collections
import math
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from one_step_trap.errors import BookError
from one_step_trap.ledger.parameters import (
    ChapterParameters,
    Gamma,
    count,
    unknown_parameter,
)


class Parameters(ChapterParameters):
    gamma: Gamma = Field(0.99, description="discount")
    horizon: Annotated[int, count(1, "horizon")] = Field(10, description="steps")
    noise: float = Field(0.1, ge=0, description="standard deviation")
    name: str = "walk"


def test_defaults_and_values():
    assert Parameters.checked({}).model_dump() == {
        **{"seed": 0, "gamma": 0.99, "horizon": 10, "noise": 0.1, "name": "walk"}
    }
    p = Parameters.checked({"gamma": 0.5, "horizon": 3.0, "seed": 7})
    assert (p.gamma, p.horizon, p.seed) == (0.5, 3, 7)


def test_parameters_do_not_change_while_a_chapter_runs():
    with pytest.raises(ValidationError):
        Parameters.checked({}).gamma = 0.5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gamma": 1.2}, "gamma must lie in [0, 1], got 1.2"),
        ({"gamma": -1}, "gamma must lie in [0, 1], got -1"),
        ({"gamma": math.nan}, "gamma must be a finite number, got nan"),
        ({"gamma": "0.9"}, "gamma must be a number, got '0.9'"),
        ({"gamma": None}, "gamma must be a number, got None"),
        ({"horizon": 0}, "horizon must be at least 1, got 0"),
        ({"horizon": 2.5}, "horizon must be a whole number, got 2.5"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"noise": -0.5}, "noise: Input should be greater than or equal to 0, got -0.5"),
        ({"gamma": 1.2, "horizon": 0}, "gamma must lie in [0, 1], got 1.2"),
    ],
)
def test_one_clear_line(values, message):
    with pytest.raises(BookError) as caught:
        Parameters.checked(values)
    assert str(caught.value) == message
    assert caught.value.__suppress_context__  # no stack of pydantic's behind it


def test_gamma_of_one():
    with pytest.raises(BookError, match="gamma = 1 is defined only where episodes end"):
        Parameters.checked({"gamma": 1})


def test_a_typo_is_an_error_with_the_nearest_name():
    with pytest.raises(BookError) as caught:
        Parameters.checked({"gama": 0.9})
    assert str(caught.value) == (
        "unknown parameter 'gama'; did you mean 'gamma'? This chapter has: gamma, horizon, name, noise, seed"
    )
    assert str(unknown_parameter("zzz", ["seed"])) == "unknown parameter 'zzz'. This chapter has: seed"


def test_the_nearest_name_is_found_whatever_its_case():
    for name in ("GAMMA", "Gama", "Horizon", "sEED"):
        with pytest.raises(BookError, match=rf"^unknown parameter '{name}'; did you mean '[a-z]+'\? This"):
            Parameters.checked({name: 1})
    assert "did you mean 'gamma'?" in str(unknown_parameter("GAMMA", ["gamma", "seed"]))
    assert "did you mean 'NOISE'?" in str(unknown_parameter("nois", ["NOISE", "seed"]))


@given(st.text(min_size=1))
def test_no_other_name_is_accepted(name):
    if name not in Parameters.model_fields:
        with pytest.raises(BookError, match=r"^unknown parameter"):
            Parameters.checked({name: 1})


def test_from_a_notebook():
    """What IPython, imports and definitions leave among the globals is no parameter; a plain value is."""
    namespace = {
        **{"gamma": 0.5, "In": ["x"], "Out": {}, "_": 1, "_i1": "x", "__name__": "__main__"},
        **{
            "math": math,
            "Parameters": Parameters,
            "exit": print,
            "Point": collections.namedtuple("Point", "x"),
        },
    }
    assert Parameters.from_notebook(namespace).gamma == 0.5
    with pytest.raises(BookError, match="unknown parameter 'gama'; did you mean 'gamma'"):
        Parameters.from_notebook({**namespace, "gama": 0.9})
