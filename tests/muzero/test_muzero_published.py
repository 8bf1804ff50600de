"""Published settings."""

from one_step_trap.muzero import published as pb


def test_the_pseudocode_has_five_steps_everywhere():
    assert {one.unroll_steps for one in (pb.ATARI, pb.BOARD)} == {5}
    table = pb.settings_table().set_index("setting")
    assert table.loc["gamma"].tolist() == ["0.997", "1"]
    assert table.loc["td_steps"].tolist() == ["10", "to the end"]
    assert table.loc["batch"].tolist() == ["1,024", "2,048"]
    assert table.loc["simulations"].tolist() == ["50", "800"]
