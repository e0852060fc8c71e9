# SPDX-License-Identifier: Apache-2.0
"""DrQ-v2 on vectors as RoboBase has it, in PyTorch, trained for a short while on a task of ours and saved as it saves.

Written from the description of the format and of the algorithm (Yarats et al., arXiv 2107.09645), so that what is
imported was not made by the code that imports it. Actor and critics are a linear layer, layer normalization and tanh,
two linear layers with rectifiers, and a linear one. It is trained on demonstrations alone, and the actor's loss has the
squared error to their actions in it, as with RoboBase's `num_pretrain_steps` and `bc_lambda`.
"""

from __future__ import annotations

import importlib
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from serl_rl.backends import check_torch
from serl_sim.envs import TaskEnv

HIDDEN = (128, 128)
BOTTLENECK = 50
BATCH = 128
CLONING = 1.0
"""Weight of the squared error to the demonstrated action in the actor's loss."""
N_STEP, DISCOUNT, TARGET_RATE = 3, 0.95, 0.01
LEARNING_RATE = 1e-3
NOISE, NOISE_CLIP = 0.3, 0.3
CRITICS = 2

Row = tuple[NDArray[np.float32], NDArray[np.float32], float, float, NDArray[np.float32]]
"""Observation, action, sum of rewards, what the value behind is multiplied with, observation behind."""


class DrQv2Training:
    """One training.

    Attributes:
        updates: of critics and actor so far.
    """

    def __init__(self, task: str, seed: int) -> None:
        """Make networks for a task without cameras; raises BackendError where there is no PyTorch."""
        check_torch()
        self._torch = importlib.import_module("torch")
        self._torch.manual_seed(seed)
        self._rng = np.random.default_rng(seed)
        self._env = TaskEnv(task)
        self._state = int(np.prod(self._env.task.observation_space["state"].shape or ()))
        self._actions = len(self._env.task.action)
        self._actor = self._network(self._state, 0, self._actions)
        self._critics = [self._network(self._state, self._actions, 1) for _ in range(CRITICS)]
        self._targets = [self._network(self._state, self._actions, 1) for _ in range(CRITICS)]
        for target, critic in zip(self._targets, self._critics, strict=True):
            target.load_state_dict(critic.state_dict())
        adam = self._torch.optim.Adam
        self._actor_optimizer = adam(self._actor.parameters(), LEARNING_RATE)
        self._critic_optimizer = adam([p for each in self._critics for p in each.parameters()], LEARNING_RATE)
        self._shown: list[Row] = []
        self._seeds = self._rng.integers(0, 2**31, 10_000).tolist()
        self.updates = 0

    def close(self) -> None:
        """Give the world back."""
        self._env.close()

    def demonstrate(self, episodes: int) -> None:
        """Store episodes of the task's scripted expert that succeed."""
        expert = self._env.task.make_expert(self._rng, self._env.task.demonstration_noise)
        while episodes:
            expert.reset()
            rows, success = self._episode(lambda _: expert.act(*self._env.known()), int(self._seeds.pop()))
            if success:
                self._shown += rows
                episodes -= 1

    def pretrain(self, updates: int) -> None:
        """So many updates of critics and actor on the demonstrations."""
        for _ in range(updates):
            self._update_critics()
            self._update_actor()
        self.updates += updates

    def success(self, episodes: int, first_seed: int) -> float:
        """Share of episodes that succeed without noise, on starts of their own."""
        return float(np.mean([self._episode(self.act, first_seed + index)[1] for index in range(episodes)]))

    def act(self, state: NDArray[np.float32]) -> NDArray[np.float32]:
        """The best action (A,) of a state (k,)."""
        with self._torch.no_grad():
            action: NDArray[np.float32] = self._torch.tanh(self._actor(self._tensor(state[None])))[0].numpy()
        return action

    def save(self, path: Path) -> None:
        """Write a snapshot as RoboBase does."""
        agent: dict[str, Any] = _named(self._actor, "actor_model")
        agent |= _named(self._actor, "actor.actor_model")
        for name, networks in (("critic", self._critics), ("critic_target", self._targets)):
            for index, network in enumerate(networks):
                agent |= _named(network, f"{name}.qs.{index}")
        settings = {
            "pixels": False,
            "frame_stack": 1,
            "action_sequence": 1,
            "replay": {"gamma": DISCOUNT, "nstep": N_STEP},
            "method": {"stddev_clip": NOISE_CLIP},
        }
        steps = {"_pretrain_step": self.updates, "_main_loop_iterations": 0, "_global_env_episode": 0}
        self._torch.save({**steps, "agent": agent, "cfg": settings}, path)

    def _network(self, inputs: int, beside: int, outputs: int) -> Any:
        nn = self._torch.nn

        class Network(nn.Module):  # type: ignore[name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.before = nn.Sequential(nn.Linear(inputs, BOTTLENECK), nn.LayerNorm(BOTTLENECK), nn.Tanh())
                layers: list[Any] = []
                width = BOTTLENECK + beside
                for size in HIDDEN:
                    layers += [nn.Linear(width, size), nn.Identity(), nn.ReLU()]
                    width = size
                self.main_mlp = nn.Sequential(*layers)
                self.out_mlp = nn.Sequential(nn.Linear(width, outputs))

            def forward(self, state: Any, *action: Any) -> Any:
                return self.out_mlp(self.main_mlp(self_cat([self.before(state), *action])))

        def self_cat(parts: list[Any]) -> Any:
            return self._torch.cat(parts, dim=-1)

        return Network()

    def _episode(
        self, choose: Callable[[NDArray[np.float32]], NDArray[np.float32]], seed: int
    ) -> tuple[list[Row], bool]:
        """The rows of an episode, and whether it succeeded."""
        observation, _ = self._env.reset(seed=seed)
        state = observation["state"]
        pending: deque[tuple[NDArray[np.float32], NDArray[np.float32], float]] = deque()
        rows: list[Row] = []
        while True:
            after, reward, terminated, truncated, info = self._env.step(choose(state))
            pending.append((state, info["executed_action"], float(reward)))
            state = after["state"]
            ends = terminated or truncated
            while pending and (len(pending) == N_STEP or ends):
                rewards = sum(DISCOUNT**index * each[2] for index, each in enumerate(pending))
                behind = 0.0 if terminated else DISCOUNT ** len(pending)
                first = pending.popleft()
                rows.append((first[0], first[1], rewards, behind, state))
            if ends:
                return rows, bool(info["success"])

    def _batch(self) -> tuple[Any, ...]:
        rows = [self._shown[index] for index in self._rng.integers(0, len(self._shown), BATCH)]
        return tuple(self._tensor(np.array(column, np.float32)) for column in zip(*rows, strict=True))

    def _tensor(self, array: NDArray[np.float32]) -> Any:
        return self._torch.from_numpy(np.ascontiguousarray(array))

    def _explored(self, state: Any) -> Any:
        """Actions with clipped noise; the gradient passes the outer cut as if it were not there."""
        mean = self._torch.tanh(self._actor(state))
        noise = (NOISE * self._torch.randn_like(mean)).clamp(-NOISE_CLIP, NOISE_CLIP)
        return mean + ((mean + noise).clamp(-1.0, 1.0) - mean).detach()

    def _update_critics(self) -> None:
        torch = self._torch
        state, action, reward, behind, after = self._batch()
        with torch.no_grad():
            following = self._explored(after)
            least = torch.stack([target(after, following)[:, 0] for target in self._targets]).amin(0)
            wanted = reward + behind * least
        loss = sum((critic(state, action)[:, 0] - wanted).square().mean() for critic in self._critics)
        self._critic_optimizer.zero_grad()
        loss.backward()
        self._critic_optimizer.step()
        with torch.no_grad():
            for target, critic in zip(self._targets, self._critics, strict=True):
                for slow, fast in zip(target.parameters(), critic.parameters(), strict=True):
                    slow.lerp_(fast, TARGET_RATE)

    def _update_actor(self) -> None:
        state, shown, *_ = self._batch()
        action = self._explored(state)
        least = self._torch.stack([critic(state, action)[:, 0] for critic in self._critics]).amin(0)
        apart = (self._torch.tanh(self._actor(state)) - shown).square().mean()
        loss = CLONING * apart - least.mean()
        self._actor_optimizer.zero_grad()
        loss.backward()
        self._actor_optimizer.step()


def _named(network: Any, prefix: str) -> dict[str, Any]:
    """Tensors with the names that RoboBase's modules give them."""
    inner = f"{prefix}.input_preprocess_modules.low_dim_obs."
    return {
        inner + name.removeprefix("before.") if name.startswith("before.") else f"{prefix}.{name}": values
        for name, values in network.state_dict().items()
    }
