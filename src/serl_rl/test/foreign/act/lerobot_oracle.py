# SPDX-License-Identifier: Apache-2.0
"""LeRobot's own ACT policy, with its own processors; its test is skipped where it is not installed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray


class LeRobotAct:
    """Acts as `lerobot-eval` does, on one observation at a time."""

    def __init__(self, path: Path) -> None:
        import_lerobot()
        from lerobot.policies.act.modeling_act import ACTPolicy
        from lerobot.policies.factory import make_pre_post_processors

        self.policy = ACTPolicy.from_pretrained(str(path), strict=True)
        self.before, self.after = make_pre_post_processors(self.policy.config, str(path))
        self.policy.reset()

    def reset(self) -> None:
        """Begin an episode."""
        self.policy.reset()

    def act(self, inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """The action (A,) in the policy's units."""
        import torch

        batch = {
            name: torch.from_numpy(values).permute(2, 0, 1).float() / 255
            if values.ndim == 3
            else torch.from_numpy(values)
            for name, values in inputs.items()
        }
        return np.asarray(self.after(self.policy.select_action(self.before(batch)))[0])


def import_lerobot() -> None:
    """Import LeRobot, or skip the test."""
    torch = pytest.importorskip("torch", reason="./serl setup lerobot")
    pytest.importorskip("lerobot", reason="./serl setup lerobot")
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        _without_compiled_operators(torch)


def _without_compiled_operators(torch: Any) -> None:
    """Torchvision beside a PyTorch for processors alone misses the operators of detection, which ACT has no use for."""
    import sys

    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision  # noqa: F401
