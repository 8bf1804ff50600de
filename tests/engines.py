"""What tests need of Gymnasium's engines, which are not to be had for every machine."""

from importlib.util import find_spec

import pytest

needs_box2d = pytest.mark.skipif(
    find_spec("Box2D") is None, reason="Box2D is not installed; it has no wheel for aarch64"
)
