"""Plain loops that say what the library computes at once: the tests compare results with them, the benchmarks times."""

import numpy as np

from one_step_trap.discounting import nstep
from one_step_trap.trap.bounds import simulation_bound
from one_step_trap.trap.bounds_instances import draw_chains, value_cells
from one_step_trap.trap.networks import predict


def n_step_td(walks, n_step, alpha, gamma=1.0):
    """V after every episode, (repetitions, episodes, N), for one n and one α."""
    history = []
    for run in walks.episodes:
        V = [0.0] * (walks.n_states + 2)
        for path in run:
            states = path.tolist()
            rewards = [0.0] * len(states)
            rewards[-1] = nstep.RIGHT_REWARD if states[-1] == walks.n_states + 1 else nstep.LEFT_REWARD
            nstep.run_episode(V, states, rewards, n_step, alpha, gamma)
            history.append(V[1:-1])
    return np.array(history).reshape(len(walks.episodes), -1, walks.n_states)


def open_loop(model, x0, a):
    """What `open_loop` returns, one start and one step at a time."""
    prediction = np.full((len(x0), a.shape[1] + 1, x0.shape[1]), np.nan)
    for b in range(len(x0)):
        x = x0[b]
        prediction[b, 0] = x
        for h in range(a.shape[1]):
            if np.isnan(a[b, h]).any():
                break
            if np.isfinite(x).all():
                x = predict(model, x[None], a[b, h][None])[0]
            if not np.isfinite(x).all():
                x = np.full_like(x, np.inf)
            prediction[b, h + 1] = x
    return prediction


def simulation_tightness(n: int, rng: np.random.Generator) -> np.ndarray:
    """Return the tightness (n,) of the pairs of `bounds_instances.draw_simulation` by plain loops."""
    tightness = []
    cells = value_cells()
    for share, (gamma, states, kind) in zip(np.array_split(np.arange(n), len(cells)), cells, strict=True):
        for P, P_hat, r, r_hat in zip(*draw_chains(rng, len(share), gamma, states, kind), strict=True):
            V = np.linalg.solve(np.eye(states) - gamma * P, r)
            V_hat = np.linalg.solve(np.eye(states) - gamma * P_hat, r_hat)
            eps_l1 = max(float(np.abs(P[s] - P_hat[s]).sum()) for s in range(states))
            eps_r = max(abs(float(r[s] - r_hat[s])) for s in range(states))
            error = max(abs(float(V[s] - V_hat[s])) for s in range(states))
            tightness.append(error / simulation_bound(eps_r, min(eps_l1, 2.0), gamma))
    return np.array(tightness)
