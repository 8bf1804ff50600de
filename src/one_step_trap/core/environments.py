"""Gymnasium environments as every instrument meets them: foreign code, behind one guard.

An environment is code of its author. Whatever it raises becomes one line that names the environment, the call and the
error. What it returns is checked before NumPy can broadcast or cut it, and copied, because many environments hand out the same
array every time. What it is given has the type that its space declares, and is a copy too. Nothing else in this library
calls ``reset`` or ``step``.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray

from one_step_trap.core.seeds import at_most
from one_step_trap.core.validate import in_a_line, short_repr
from one_step_trap.errors import BookError

SEED_BITS = 32
"""What any generator takes as a seed; longer ones are derived (`seeds.at_most`)."""


class Outcome(NamedTuple):
    """What a step led to; ``truncated`` also where the time limit cut in."""

    observation: Any
    reward: float
    terminated: bool
    truncated: bool


class Environment:
    """A Gymnasium environment by id, whose every call is guarded.

    ``max_steps``: a time limit in place of its own (`math.inf`: none). ``options``: keyword arguments for its maker.
    ``finite=False`` lets observations and rewards that are NaN or infinite through. ``name`` is the id under which it is
    registered, however it was spelled ("CartPole" is CartPole-v1); ``time_limit`` its own limit, None if it has none;
    ``action_dtype`` the type to which actions are rounded: that of the space. None in Gymnasium's own environments, which
    take any real number: the book's studies gave them unrounded ones, and these numbers stay.

    Observations come as the space declares them: a Box as an array of its type and shape, a Discrete one as a whole number;
    those of other spaces as they are.
    """

    def __init__(
        self,
        id: str,
        *,
        max_steps: float | None = None,
        options: Mapping[str, Any] | None = None,
        finite: bool = True,
    ) -> None:
        self.id, self.finite = id, finite
        self.env = make(id, options)
        with self.guarded("its spaces"):
            self.observation_space, self.action_space = self.env.observation_space, self.env.action_space
            spec, inner = self.env.unwrapped.spec, self.env.spec
        assert spec is not None
        self.name = spec.id
        registered = gymnasium.registry.get(self.name)
        self.time_limit: int | None = getattr(inner, "max_episode_steps", None) or getattr(
            registered, "max_episode_steps", None
        )
        self.limit = (self.time_limit or math.inf) if max_steps is None else max_steps
        self.steps = 0
        own = entry_module(spec).startswith("gymnasium.")
        self.action_dtype: Any = None if own else getattr(self.action_space, "dtype", None)

    @property
    def unwrapped(self) -> Any:
        """The author's own environment, without any wrapper."""
        return self.env.unwrapped

    @contextlib.contextmanager
    def guarded(self, call: str) -> Iterator[None]:
        """Turn whatever the environment's code raises in a ``call`` into one line; its own error remains as the cause."""
        try:
            yield
        except BookError:
            raise
        except (Exception, SystemExit) as error:
            raise self._failed(call, error) from error

    def _failed(self, call: str, error: BaseException) -> BookError:
        return BookError(f"{self.id} failed in {call} ({type(error).__name__}): {in_a_line(error)}")

    def _call(self, call: str, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        # `guarded` without its context manager, which costs as much as a step of a small environment
        try:
            return function(*arguments, **named)
        except BookError:
            raise
        except (Exception, SystemExit) as error:
            raise self._failed(call, error) from error

    def reset(self, seed: int | None = None) -> Any:
        """Start an episode and return its first observation; without a ``seed`` the environment's own generator goes on."""
        self.steps = 0
        seed = None if seed is None else at_most(SEED_BITS, seed)
        answer = self._call("reset", self.env.reset, seed=seed)
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise BookError(f"{self.id}: reset must return (observation, info), got {_described(answer)}")
        self._check_info(answer[1], "reset")
        return self._observation(answer[0], "reset")

    def step(self, action: Any) -> Outcome:
        """Take a native action, one of the action space."""
        answer = self._call("step", self.env.step, self._native(action))
        if not isinstance(answer, tuple) or len(answer) != 5:
            raise BookError(
                f"{self.id}: step must return (observation, reward, terminated, truncated, info), got {_described(answer)}"
            )
        seen, reward, terminated, truncated, info = answer
        self.steps += 1
        self._check_info(info, "step")
        return Outcome(
            self._observation(seen, "step"),
            self._reward(reward),
            self._flag(terminated, "terminated"),
            self._flag(truncated, "truncated") or self.steps >= self.limit,
        )

    def close(self) -> None:
        """Close the environment; what its code raises then no longer matters, and must cost nobody a result."""
        with contextlib.suppress(Exception, SystemExit):
            self.env.close()

    # --- what goes in ---

    def _native(self, action: Any) -> Any:
        """Return a copy of an action, as its space has it."""
        if isinstance(self.action_space, spaces.Discrete):
            return self.action_space.dtype.type(action)
        return (
            np.array(action, dtype=self.action_dtype) if isinstance(self.action_space, spaces.Box) else action
        )

    # --- what comes out ---

    def _where(self) -> str:
        return f"step {self.steps} of an episode" if self.steps else "reset"

    def _check_info(self, info: Any, call: str) -> None:
        if not isinstance(info, Mapping):
            raise BookError(f"{self.id}: the info that {call} returns must be a dict, got {short_repr(info)}")

    def _reward(self, reward: Any) -> float:
        number = _array(reward)
        if number is None or number.ndim or (self.finite and not math.isfinite(number)):
            raise BookError(
                f"{self.id} gave the reward {short_repr(reward)} ({self._where()}): it must be one finite number"
            )
        return float(number)

    def _flag(self, flag: Any, name: str) -> bool:
        if flag is True or flag is False:
            return flag
        value = _array(flag)
        if value is None or value.ndim or value not in (0, 1):
            raise BookError(
                f"{self.id} gave {name} = {short_repr(flag)} ({self._where()}): it must be True or False"
            )
        return bool(value)

    def _observation(self, seen: Any, call: str) -> Any:
        space = self.observation_space
        if not isinstance(space, spaces.Box | spaces.Discrete):
            return seen
        found, shape = _array(seen), space.shape or ()
        if found is None:
            raise BookError(
                f"{self.id}: {call} must return an observation of numbers, got {short_repr(seen)}"
            )
        if found.shape != shape:
            raise BookError(
                f"{self.id}: {call} returned an observation of shape {found.shape}, but its space has {shape}"
            )
        with np.errstate(invalid="ignore", over="ignore"):  # the result is looked at below
            result = np.array(found, dtype=space.dtype)
        if result.dtype.kind != "f":
            if found.dtype != result.dtype and not np.array_equal(result, found):
                raise BookError(
                    f"{self.id}: {call} returned {short_repr(seen)}, which is nothing that its space of {space.dtype} can hold"
                )
        elif self.finite and not np.isfinite(result).all():
            raise BookError(
                f"{self.id} returned an observation with NaN or infinite values ({self._where()})"
            )
        if isinstance(space, spaces.Box):
            return result
        if not 0 <= result - space.start < space.n:
            last = space.start + space.n - 1
            raise BookError(
                f"{self.id}: {call} returned the observation {result}, but its space has {space.start} to {last}"
            )
        return int(result)


def _array(value: Any) -> NDArray[Any] | None:
    """Return real numbers as an array (not a copy), or None if they are something else."""
    try:
        found = np.asarray(value)
    except Exception:  # ragged lists, tensors that need gradients, objects with a conversion of their own
        return None
    return found if found.dtype.kind in "biuf" else None


def _described(answer: Any) -> str:
    return f"{len(answer)} values" if isinstance(answer, tuple) else short_repr(answer)


# --- by name ----------------------------------------------------------------------------------------------


def make(id: str, options: Mapping[str, Any] | None = None) -> gymnasium.Env[Any, Any]:
    """Return Gymnasium's environment without a time limit, or say in one line why it cannot be made.

    An unknown id names the nearest known ones; a missing package of Gymnasium's own environments, the command that
    installs it. ``"module:id"`` imports the module first, and an id without a version is the latest one.
    """
    if not isinstance(id, str) or not id:
        raise BookError(
            f"an environment is named by its Gymnasium id, such as 'CartPole-v1', got {short_repr(id)}"
        )
    named = dict(options or {})
    try:
        with quiet_mujoco(gymnasium.registry.get(id)):
            return gymnasium.make(id, max_episode_steps=-1, disable_env_checker=True, **named)
    except gymnasium.error.UnregisteredEnv:
        raise BookError(_unknown(id)) from None
    except BookError:
        raise
    except (Exception, SystemExit) as error:  # whatever the code of an environment raises
        with_them = f" with {short_repr(named)}" if named else ""
        raise BookError(f"{id} cannot be made{with_them}: {in_a_line(error)}{_advice(id, error)}") from error


def _unknown(id: str) -> str:
    known = {name.lower(): name for name in gymnasium.registry}
    near = [known[name] for name in difflib.get_close_matches(id.lower(), known, n=3, cutoff=0.5)]
    if id.lower().startswith("ale/"):
        return f"unknown environment {id!r}: Atari needs the package ale_py (and its images are no vectors)"
    hint = f"did you mean {' or '.join(near)}?" if near else "gymnasium.registry lists the known ones"
    return f"unknown environment {id!r}: {hint}"


def _advice(id: str, error: BaseException) -> str:
    """Return the command that installs what one of Gymnasium's own environments lacks."""
    family = entry_module(gymnasium.registry.get(id)).split(".")
    lacks = isinstance(error, ImportError | gymnasium.error.DependencyNotInstalled)
    if not lacks or family[:2] != ["gymnasium", "envs"] or len(family) < 3:
        return ""
    return f"; try: pip install 'gymnasium[{family[2]}]'"


def entry_module(spec: EnvSpec | None) -> str:
    """Return the module that a spec's entry point lives in."""
    entry = getattr(spec, "entry_point", None)
    return entry.split(":")[0] if isinstance(entry, str) else str(getattr(entry, "__module__", ""))


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
