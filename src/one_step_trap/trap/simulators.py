"""Gymnasium environments written out: dynamics of many copies at once, and rewards as formulas.

A planner asks its model millions of times, and needs a reward for observations that are only *predicted*. Gymnasium's own
environments give neither: they step one state at a time, and their reward is part of the step. Here four of them are
written as functions of arrays, from their published equations, and the tests hold them against Gymnasium's own step by
step. Their constants can be changed, which makes models that are wrong in one known way (`perturbed`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import ClassVar

import numpy as np

from one_step_trap.core.validate import BoolArray, FloatArray, check_positive
from one_step_trap.errors import BookError
from one_step_trap.trap.worlds import check_env


@dataclass(frozen=True)
class World:
    """A Gymnasium environment written out: B copies step together, and its constants can be changed.

    Subclasses are dataclasses whose fields are the constants of nature. States are (B, S), observations (B, D), actions
    (B, A) as a model sees them (one-hot if discrete); the reward is a formula of what is observed, so that it can be
    asked of a *predicted* observation as well.
    """

    env_id: ClassVar[str]

    def start(self, rng: np.random.Generator, n: int) -> FloatArray:
        """Return n start states, drawn as the environment's reset draws them."""
        raise NotImplementedError

    def step(self, state: FloatArray, action: FloatArray) -> FloatArray:
        """Return the next states."""
        raise NotImplementedError

    def observe(self, state: FloatArray) -> FloatArray:
        """Return the observations of states, in float64."""
        return state

    def state_of(self, observation: FloatArray) -> FloatArray:
        """Return states that look like this: the inverse of ``observe``, up to full turns of an angle."""
        return observation

    def reward(self, observation: FloatArray, action: FloatArray, after: FloatArray) -> FloatArray:
        """Return the reward (B,) of steps from ``observation`` under ``action`` to the observation ``after``."""
        raise NotImplementedError

    def terminated(self, observation: FloatArray) -> BoolArray:
        """Tell which episodes (B,) end on reaching ``observation``."""
        return np.zeros(len(observation), dtype=bool)

    def __call__(self, observation: FloatArray, action: FloatArray) -> FloatArray:
        """Return the next observations: this world as a (perfect) one-step model."""
        return self.observe(self.step(self.state_of(observation), action))


@dataclass(frozen=True)
class Pendulum(World):
    """Pendulum-v1: swing up a rod (gravity ``g``, mass ``m``, length ``l``) with a torque u in [-2, 2].

    θ'' = 3g/(2l) sin θ + 3u/(m l²), Euler steps of .05 s, speed first; reward -(θ² + .1 θ'² + .001 u²), θ in [-π, π].
    """

    env_id: ClassVar[str] = "Pendulum-v1"
    g: float = 10.0
    m: float = 1.0
    l: float = 1.0  # noqa: E741 - its name in the equation

    def start(self, rng: np.random.Generator, n: int) -> FloatArray:
        """Return angles in [-π, π] and speeds in [-1, 1]."""
        return rng.uniform([-np.pi, -1.0], [np.pi, 1.0], size=(n, 2))

    def step(self, state: FloatArray, action: FloatArray) -> FloatArray:
        """Return the next (θ, θ')."""
        th, speed = state.T
        u = np.clip(action[:, 0], -2, 2)
        speed = speed + 0.05 * (3 * self.g / (2 * self.l) * np.sin(th) + 3 / (self.m * self.l**2) * u)
        speed = np.clip(speed, -8, 8)
        return np.stack((th + 0.05 * speed, speed), axis=1)

    def observe(self, state: FloatArray) -> FloatArray:
        """Return (cos θ, sin θ, θ')."""
        th, speed = state.T
        return np.stack((np.cos(th), np.sin(th), speed), axis=1)

    def state_of(self, observation: FloatArray) -> FloatArray:
        """Return (θ, θ'), θ in [-π, π]."""
        cos, sin, speed = observation.T
        return np.stack((np.arctan2(sin, cos), speed), axis=1)

    def reward(self, observation: FloatArray, action: FloatArray, after: FloatArray) -> FloatArray:
        """Return the negative cost of angle, speed and torque *before* the step."""
        th, speed = self.state_of(observation).T
        return np.asarray(-(th**2 + 0.1 * speed**2 + 0.001 * np.clip(action[:, 0], -2, 2) ** 2))


@dataclass(frozen=True)
class CartPole(World):
    """CartPole-v1: keep a pole upright on a cart pushed left or right (Barto, Sutton & Anderson 1983).

    Reward 1 a step, the one that ends the episode included; it ends beyond 2.4 m or 12 degrees.
    """

    env_id: ClassVar[str] = "CartPole-v1"
    gravity: float = 9.8
    masscart: float = 1.0
    masspole: float = 0.1
    length: float = 0.5  # half the pole's
    force: float = 10.0

    def start(self, rng: np.random.Generator, n: int) -> FloatArray:
        """Return states with all four numbers in [-.05, .05]."""
        return rng.uniform(-0.05, 0.05, size=(n, 4))

    def step(self, state: FloatArray, action: FloatArray) -> FloatArray:
        """Return the next (x, x', θ, θ') by an Euler step of .02 s."""
        _, x_dot, th, th_dot = state.T
        F = self.force * (action[:, 1] - action[:, 0])
        M, m_l = self.masscart + self.masspole, self.masspole * self.length
        push = (F + m_l * th_dot**2 * np.sin(th)) / M
        th_acc = (self.gravity * np.sin(th) - np.cos(th) * push) / (
            self.length * (4 / 3 - self.masspole * np.cos(th) ** 2 / M)
        )
        x_acc = push - m_l * th_acc * np.cos(th) / M
        return state + 0.02 * np.stack((x_dot, x_acc, th_dot, th_acc), axis=1)

    def reward(self, observation: FloatArray, action: FloatArray, after: FloatArray) -> FloatArray:
        """Return 1 for every step."""
        return np.ones(len(observation))

    def terminated(self, observation: FloatArray) -> BoolArray:
        """Tell which carts have left the track and which poles have fallen."""
        return np.asarray((np.abs(observation[:, 0]) > 2.4) | (np.abs(observation[:, 2]) > np.pi / 15))


@dataclass(frozen=True)
class MountainCar(World):
    """MountainCarContinuous-v0: leave a valley with an engine too weak to climb straight out.

    x'' = power·u - slope·cos 3x; reward -.1 u² a step, and 100 at the top, x >= .45, which ends the episode.
    """

    env_id: ClassVar[str] = "MountainCarContinuous-v0"
    power: float = 0.0015
    slope: float = 0.0025

    def start(self, rng: np.random.Generator, n: int) -> FloatArray:
        """Return cars at rest between -.6 and -.4."""
        return rng.uniform([-0.6, 0.0], [-0.4, 0.0], size=(n, 2))

    def step(self, state: FloatArray, action: FloatArray) -> FloatArray:
        """Return the next (x, x'); the left wall stops the car."""
        x, speed = state.T
        speed = speed + np.clip(action[:, 0], -1, 1) * self.power - self.slope * np.cos(3 * x)
        speed = np.clip(speed, -0.07, 0.07)
        x = np.clip(x + speed, -1.2, 0.6)
        speed = np.where((x == -1.2) & (speed < 0), 0.0, speed)
        return np.stack((x, speed), axis=1)

    def reward(self, observation: FloatArray, action: FloatArray, after: FloatArray) -> FloatArray:
        """Return the cost of the engine, and 100 at the top."""
        return np.asarray(100.0 * self.terminated(after) - 0.1 * action[:, 0] ** 2)

    def terminated(self, observation: FloatArray) -> BoolArray:
        """Tell which cars are at the top (and do not roll back)."""
        return np.asarray((observation[:, 0] >= 0.45) & (observation[:, 1] >= 0))


@dataclass(frozen=True)
class Acrobot(World):
    """Acrobot-v1: swing the tip of a double pendulum above a line, with a torque at the elbow (Sutton 1996).

    Reward -1 a step until the tip is one rod above the upper joint; fourth-order Runge-Kutta steps of .2 s.
    """

    env_id: ClassVar[str] = "Acrobot-v1"
    gravity: float = 9.8
    mass: float = 1.0  # of each rod; a rod is 1 m long, with its centre of mass in the middle and inertia 1

    def start(self, rng: np.random.Generator, n: int) -> FloatArray:
        """Return states with all four numbers in [-.1, .1]."""
        return rng.uniform(-0.1, 0.1, size=(n, 4))

    def step(self, state: FloatArray, action: FloatArray) -> FloatArray:
        """Return the next (θ1, θ2, θ1', θ2'), angles in [-π, π], speeds up to 4π and 9π."""
        torque, dt = action[:, 2] - action[:, 0], 0.2
        k1 = self._flow(state, torque)
        k2 = self._flow(state + dt / 2 * k1, torque)
        k3 = self._flow(state + dt / 2 * k2, torque)
        k4 = self._flow(state + dt * k3, torque)
        after = state + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        angles = (after[:, :2] + np.pi) % (2 * np.pi) - np.pi
        speeds = np.clip(after[:, 2:], [-4 * np.pi, -9 * np.pi], [4 * np.pi, 9 * np.pi])
        return np.concatenate((angles, speeds), axis=1)

    def _flow(self, state: FloatArray, torque: FloatArray) -> FloatArray:
        """Return the time derivative of the state (Sutton & Barto, the equations of the book)."""
        th1, th2, w1, w2 = state.T
        m, g = self.mass, self.gravity
        d1 = m * 0.25 + m * (1.25 + np.cos(th2)) + 2
        d2 = m * (0.25 + 0.5 * np.cos(th2)) + 1
        phi2 = m * 0.5 * g * np.cos(th1 + th2 - np.pi / 2)
        bend = 0.5 * m * np.sin(th2)
        phi1 = -bend * w2**2 - 2 * bend * w2 * w1 + 1.5 * m * g * np.cos(th1 - np.pi / 2) + phi2
        acc2 = (torque + d2 / d1 * phi1 - bend * w1**2 - phi2) / (m * 0.25 + 1 - d2**2 / d1)
        return np.stack((w1, w2, -(d2 * acc2 + phi1) / d1, acc2), axis=1)

    def observe(self, state: FloatArray) -> FloatArray:
        """Return (cos θ1, sin θ1, cos θ2, sin θ2, θ1', θ2')."""
        th1, th2, w1, w2 = state.T
        return np.stack((np.cos(th1), np.sin(th1), np.cos(th2), np.sin(th2), w1, w2), axis=1)

    def state_of(self, observation: FloatArray) -> FloatArray:
        """Return (θ1, θ2, θ1', θ2'), angles in [-π, π]."""
        c1, s1, c2, s2, w1, w2 = observation.T
        return np.stack((np.arctan2(s1, c1), np.arctan2(s2, c2), w1, w2), axis=1)

    def reward(self, observation: FloatArray, action: FloatArray, after: FloatArray) -> FloatArray:
        """Return -1 for every step that does not reach the line."""
        return np.where(self.terminated(after), 0.0, -1.0)

    def terminated(self, observation: FloatArray) -> BoolArray:
        """Tell where the tip is above the line."""
        c1, s1, c2, s2 = observation.T[:4]
        return np.asarray(-c1 - (c1 * c2 - s1 * s2) > 1)


WORLDS: dict[str, World] = {w.env_id: w for w in (Pendulum(), CartPole(), MountainCar(), Acrobot())}
"""The environments with a reward formula (and dynamics) that many copies can be asked at once."""


def known_world(env_id: str) -> World:
    """Return the environment written out; BookError if it is unknown, or known but without a reward formula."""
    known = isinstance(env_id, str) and env_id in WORLDS
    name = env_id if known else check_env(env_id).name  # an unknown id gets its own answer
    if name in WORLDS:
        return WORLDS[name]
    raise BookError(
        f"{env_id} has no reward formula here, and planning needs one; there is one for {', '.join(WORLDS)} "
        "(for a world of your own, subclass World)"
    )


def perturbed(world: World, **factors: float) -> World:
    """Return the world with constants of nature multiplied: ``perturbed(Pendulum(), g=1.5)`` is half as heavy again."""
    if not isinstance(world, World):
        raise BookError(f"world must be a World, such as Pendulum(), got {world!r}")
    names = [field.name for field in fields(world)]
    unknown = sorted(set(factors) - set(names))
    if unknown:
        raise BookError(f"{world.env_id} has no constant {unknown[0]!r}; it has {', '.join(names)}")
    changed = {k: getattr(world, k) * check_positive(f, f"the factor of {k}") for k, f in factors.items()}
    return replace(world, **changed)
