"""What chapters that play Gymnasium environments share: a physics engine that keeps its remarks to itself."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Iterator

from gymnasium.envs.registration import EnvSpec


@contextlib.contextmanager
def quiet_mujoco(spec: EnvSpec | None) -> Iterator[None]:
    """Keep MuJoCo's compiler from printing warnings and from leaving MUJOCO_LOG.TXT in the current folder.

    Does nothing for an environment of another engine, for one that is not registered, and where MuJoCo is not installed.
    """
    if "mujoco" not in str(getattr(spec, "entry_point", "")) or not importlib.util.find_spec("mujoco"):
        yield
        return
    mujoco = importlib.import_module("mujoco")
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)
