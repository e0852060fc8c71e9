# SPDX-License-Identifier: Apache-2.0
"""LeRobot's own ACT policy, with its own processors, to compare ours with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serl_lerobot.compat import load


class LeRobotAct:
    """Acts on one observation at a time, as LeRobot's evaluation does."""

    def __init__(self, path: Path) -> None:
        """Load a policy.

        Args:
            path: of its directory.

        Raises:
            LeRobotMissing: LeRobot is not installed.
        """
        modeling = load("lerobot.policies.act.modeling_act")
        self.policy: Any = modeling.ACTPolicy.from_pretrained(str(path), strict=True)
        make = load("lerobot.policies.factory").make_pre_post_processors
        self._before, self._after = make(self.policy.config, str(path))
        self.policy.reset()

    def reset(self) -> None:
        """Begin an episode."""
        self.policy.reset()

    def batch(self, inputs: Mapping[str, NDArray[Any]]) -> Any:
        """What the network takes for pictures (H, W, 3), uint8, and vectors (n,), by the features' names."""
        torch = load("torch")
        return self._before(
            {
                name: torch.from_numpy(values).permute(2, 0, 1).float() / 255
                if values.ndim == 3
                else torch.from_numpy(values)
                for name, values in inputs.items()
            }
        )

    def chunk(self, inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """A chunk (C, A) of normalised actions, of inputs as `batch` takes them."""
        return np.asarray(self.policy.predict_action_chunk(self.batch(inputs))[0])

    def act(self, inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """The action (A,) in the policy's units, of inputs as `batch` takes them."""
        return np.asarray(self._after(self.policy.select_action(self.batch(inputs)))[0])


class LeRobotActTraining:
    """Trains LeRobot's own ACT class with its own optimizer and clipping, as its trainer does with each batch."""

    def __init__(self, path: Path, *, from_maps: bool = False) -> None:
        """Begin with the weights in a directory.

        Args:
            path: of the directory.
            from_maps: batches hold what the backbone makes, (B, K, h, w), in the place of pictures, and the backbone,
                which is not trained then, is no part of the parameters.

        Raises:
            LeRobotMissing: LeRobot is not installed.
        """
        self.policy: Any = LeRobotAct(path).policy
        if from_maps:
            self.policy.model.backbone = _given_maps()
        self.policy.train()
        preset = self.policy.config.get_optimizer_preset()
        self._most = preset.grad_clip_norm
        self._optimizer = preset.build(self.policy.get_optim_params())

    def update(self, batch: Any) -> float:
        """The loss of a batch of tensors (B, ...) by LeRobot's names, normalised, before the step on it."""
        loss, _ = self.policy.forward(batch)
        loss.backward()
        load("torch").nn.utils.clip_grad_norm_(self.policy.parameters(), self._most)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return float(loss.detach())

    def parameters(self) -> dict[str, NDArray[np.float32]]:
        """A copy of all tensors, by LeRobot's names."""
        return {name: each.detach().numpy().copy() for name, each in self.policy.state_dict().items()}


def _given_maps() -> Any:
    """A module in the place of a backbone: its input is the map already."""

    class GivenMaps(load("torch").nn.Module):  # type: ignore[misc]
        def forward(self, maps: Any) -> dict[str, Any]:
            return {"feature_map": maps}

    return GivenMaps()
