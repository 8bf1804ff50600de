"""Published numbers, as far as they can be checked against each other, and what is compared with them."""

import numpy as np
import pytest

from one_step_trap.errors import BookError
from one_step_trap.muzero import published as pb
from one_step_trap.muzero.plots.theory import plot_published


def test_the_pseudocode_has_five_steps_everywhere():
    assert {one.unroll_steps for one in (pb.ATARI, pb.BOARD)} == {5}
    table = pb.settings_table().set_index("setting")
    assert table.loc["gamma"].tolist() == ["0.997", "1"]
    assert table.loc["td_steps"].tolist() == ["10", "to the end"]
    assert table.loc["batch"].tolist() == ["1,024", "2,048"]
    assert table.loc["simulations"].tolist() == ["50", "800"]


def test_the_published_grid_explains_the_number_of_runs():
    assert pb.grid_size() == 288 == sum(one.runs for one in pb.DE_VRIES_CARTPOLE)
    assert len(pb.DE_VRIES_GRID["K"]) == len(pb.DE_VRIES_CARTPOLE)


def test_published_returns_fall_with_K_and_shares_do_not_part_one_from_five():
    table = pb.cartpole_table()
    assert (np.diff(table["mean_return"]) < 0).all()
    one, five, ten = table.itertuples()
    assert one.low < five.solved < one.high
    assert ten.high < one.low


def test_orders():
    assert pb.compare_orders({1: 500, 5: 400, 10: 100}) == ()
    assert pb.compare_orders({1: 300, 5: 400, 10: 100, 20: 9}) == ((1, 5),)
    assert pb.compare_orders({1: 300, 5: 300}) == ()


def test_the_knee():
    assert pb.knee([1, 2, 4], [0, -4, -8], share=0.5) == pytest.approx(2)
    assert pb.knee([1, 3, 4], [0, -8, -8], share=0.25) == pytest.approx(1.5)
    assert 20 < pb.published_knee() < 21


def test_findings_have_sources_and_the_figure_is_drawn():
    assert pb.finding("He et al. 2023").arxiv == "2306.00840"
    assert {one.checked for one in pb.FINDINGS} <= {"second source", "notes"}
    assert len(plot_published().axes) == 2
    ours = pb.cartpole_table().assign(low=100, high=500)
    assert len(plot_published(ours).axes[0].get_legend().get_texts()) == 2


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: pb.compare_orders({}), "map K"),
        (lambda: pb.compare_orders({1: 3.0}), "at least two"),
        (lambda: pb.compare_orders({1: np.nan, 5: 1}), "NaN"),
        (lambda: pb.knee([1, 1], [0, -1]), "increasing"),
        (lambda: pb.knee([1, 2], [0, 0]), "nothing is lost"),
        (lambda: pb.knee([1, 2], [0, -1], share=1), "strictly"),
        (lambda: pb.finding("Nobody 1999"), "source"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(BookError, match=words):
        call()
