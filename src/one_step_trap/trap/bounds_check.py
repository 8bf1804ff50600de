"""Do the bounds hold, and how tight are they? Each against at least 10,000 worlds, computed exactly.

**The rule, fixed before looking** (:func:`verdict`): "the published bounds hold" when no bound is violated on
at least 10,000 instances each (a violation is an error above the bound by more than a relative 1e-9), and
every bound that is called tight is attained by its example to a relative 1e-9.

No violation is what a theorem promises. The check guards our statement of it (the norm, the factors, the
distribution that an expectation is under), and the tightness, error/bound, says how much the bound tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from one_step_trap.core.validate import FloatArray, check_count, check_rng
from one_step_trap.errors import BookError
from one_step_trap.trap import bounds_instances as draws
from one_step_trap.trap.bounds_instances import Batch, Strings

TOLERANCE = 1e-9  # relative
REQUIRED = 10_000
HOLDS = "holds"
DOES_NOT_HOLD = "does not hold"
OPEN = "open"


class Bound(NamedTuple):
    """A bound under test: its norm and statement in words, where it is from, and how it is drawn and attained."""

    label: str
    norm: str
    source: str
    setting_name: str
    draw: Callable[[int, np.random.Generator], Batch]
    attain: Callable[[], float] | None


BOUNDS: dict[str, Bound] = {
    "simulation": Bound(
        "simulation lemma", "L1, r in [0, 1]", "Kearns & Singh 2002", "gamma", draws.draw_simulation, None
    ),
    "lobel-parr": Bound(
        "Lobel–Parr",
        "L1, r in [0, 1]",
        "Lobel & Parr 2024",
        "gamma",
        draws.draw_lobel_parr,
        draws.attain_lobel_parr,
    ),
    "lipschitz": Bound(
        "Lipschitz", "W1", "Asadi et al. 2018", "K", draws.draw_lipschitz, draws.attain_lipschitz
    ),
    "imitation": Bound(
        "cloning, T²ε",
        "0-1 loss, costs in [0, 1]",
        "Ross & Bagnell 2010",
        "T",
        draws.draw_imitation,
        draws.attain_imitation,
    ),
    "interactive": Bound(
        "DAgger, uTε",
        "0-1 loss, costs in [0, 1]",
        "Ross et al. 2011",
        "T",
        draws.draw_interactive,
        draws.attain_interactive,
    ),
    "mbpo": Bound("MBPO 4.1", "TV, r in [-1, 1]", "Janner et al. 2019", "gamma", draws.draw_mbpo, None),
    "branched": Bound(
        "MBPO 4.3", "TV, r in [-1, 1]", "Janner et al. 2019", "gamma", draws.draw_branched, None
    ),
    "branched-sharp": Bound(
        "4.3, sharper",
        "TV, r in [-1, 1]",
        "ours",
        "gamma",
        draws.draw_branched_sharp,
        draws.attain_branched_sharp,
    ),
    "gamma-models": Bound(
        "γ-model tail",
        "r in [0, 1]",
        "Janner et al. 2020",
        "gamma",
        draws.draw_gamma_models,
        draws.attain_gamma_models,
    ),
}


@dataclass(frozen=True)
class BoundCheck:
    """A bound put to the test.

    ``error``, ``limit`` (n,): exact error and bound of each instance; ``kind`` (n,): "random",
    "adversarial" (built to make the error large) or, for values, "dense"; ``setting`` (n,): the γ, K or T of the instance.
    ``attained``: the largest relative gap of the examples that attain the bound; not set where none does.
    """

    name: str
    error: FloatArray
    limit: FloatArray
    kind: Strings
    setting: FloatArray
    attained: float | None

    @property
    def bound(self) -> Bound:
        """What is being tested: label, norm, source."""
        return BOUNDS[self.name]

    @property
    def instances(self) -> int:
        """How many pairs of a world and a model were drawn."""
        return len(self.error)

    @property
    def tightness(self) -> FloatArray:
        """Error over bound of each instance, (n,): at most 1 where the bound holds."""
        return np.asarray(self.error / self.limit)

    @property
    def violated(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which errors exceed their bound by more than a relative 1e-9, (n,)."""
        return np.asarray(self.error > self.limit * (1 + TOLERANCE))

    @property
    def violations(self) -> int:
        """How many instances violate the bound."""
        return int(self.violated.sum())

    def to_frame(self) -> pd.DataFrame:
        """Return a tidy table, one row an instance."""
        return pd.DataFrame(
            {
                "bound": self.name,
                "kind": self.kind,
                self.bound.setting_name: self.setting,
                "error": self.error,
                "limit": self.limit,
                "tightness": self.tightness,
                "violated": self.violated,
            }
        )


def check(name: str, instances: int, rng: np.random.Generator) -> BoundCheck:
    """Return ``instances`` (100 or more) exact errors beside the bound called ``name``, a key of ``BOUNDS``."""
    if not isinstance(name, str) or name not in BOUNDS:
        raise BookError(f"no bound is called {name!r}; known: {', '.join(BOUNDS)}")
    bound, n = BOUNDS[name], check_count(instances, "instances", minimum=100)
    error, limit, kind, setting = bound.draw(n, check_rng(rng))
    return BoundCheck(name, error, limit, kind, setting, bound.attain() if bound.attain else None)


def check_all(instances: int, rng: np.random.Generator) -> tuple[BoundCheck, ...]:
    """Return the check of every bound, each with a generator of its own, spawned from ``rng``."""
    children = check_rng(rng).spawn(len(BOUNDS))
    return tuple(check(name, instances, child) for name, child in zip(BOUNDS, children, strict=True))


def summary(checks: Iterable[BoundCheck]) -> pd.DataFrame:
    """Return the table of the chapter: one row a bound, with tightness for random and adversarial instances.

    ``attained to``: relative gap of the example that attains the bound; empty where no example does.
    """
    return pd.DataFrame([_summary_row(one) for one in _known(checks)])


def verdict(checks: Iterable[BoundCheck]) -> str:
    """Return what the rule at the top of this module says; "open" where too few instances were drawn."""
    known = _known(checks)
    gaps = [one.attained for one in known if one.attained is not None]
    if any(one.violations for one in known) or any(gap > TOLERANCE for gap in gaps):
        return DOES_NOT_HOLD
    return HOLDS if {one.name for one in known if one.instances >= REQUIRED} == set(BOUNDS) else OPEN


def _known(checks: Iterable[BoundCheck]) -> tuple[BoundCheck, ...]:
    known = tuple(checks) if isinstance(checks, Iterable) else ()
    if not known or not all(isinstance(one, BoundCheck) for one in known):
        raise BookError("checks must be one or more results of check or check_all")
    return known


def _summary_row(one: BoundCheck) -> dict[str, Any]:
    random = one.tightness[one.kind == "random"]
    return {
        "bound": one.bound.label,
        "source": one.bound.source,
        "norm": one.bound.norm,
        "instances": one.instances,
        "violations": one.violations,
        "median, random": float(np.median(random)),
        "largest, random": float(random.max()),
        "largest, adversarial": float(one.tightness[one.kind == "adversarial"].max()),
        "attained to": one.attained,
    }
