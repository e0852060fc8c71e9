# SPDX-License-Identifier: Apache-2.0
"""LeRobot's own SAC policy writes a directory; what is read from it acts, values and grasps as that class does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serl_rl.foreign.lerobot_sac.policy import SacPolicy

from serl_lerobot import compat

pytest.importorskip("lerobot", reason="./serl setup lerobot")
try:
    compat.load("lerobot.policies.sac")
except compat.LeRobotMissing:
    pytest.skip("LeRobot 0.6, of Python 3.12, has no SAC policy of this kind any more", allow_module_level=True)

SIDE = 64
CAMERAS = ("observation.images.front", "observation.images.wrist")


def written(folder: Path, **settings: Any) -> Any:
    """A policy of LeRobot with random weights, also written to a folder."""
    types = compat.load("lerobot.configs.types")
    configuration = compat.load("lerobot.policies.sac.configuration_sac")
    feature, kinds = types.PolicyFeature, types.FeatureType
    config = configuration.SACConfig(
        input_features={
            **{name: feature(type=kinds.VISUAL, shape=(3, SIDE, SIDE)) for name in CAMERAS},
            "observation.state": feature(type=kinds.STATE, shape=(7,)),
        },
        output_features={"action": feature(type=kinds.ACTION, shape=(3,))},
        device="cpu",
        use_torch_compile=False,
        **settings,
    )
    policy = compat.load("lerobot.policies.sac.modeling_sac").SACPolicy(config).eval()
    policy.save_pretrained(folder)
    return policy


@pytest.mark.parametrize("settings", [{"num_discrete_actions": 3}, {"shared_encoder": False}])
def test_a_directory_of_lerobot_acts_as_its_own_class(tmp_path: Path, settings: dict[str, Any]) -> None:
    torch = compat.load("torch")
    torch.manual_seed(0)
    theirs = written(tmp_path / "policy", **settings)
    ours = SacPolicy(tmp_path / "policy")
    assert ours.critics == 2
    rng = np.random.default_rng(0)
    for _ in range(5):
        inputs: dict[str, Any] = {name: rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for name in CAMERAS}
        inputs["observation.state"] = rng.normal(size=7).astype(np.float32)
        batch = {name: torch.from_numpy(inputs[name]).permute(2, 0, 1)[None] / 255.0 for name in CAMERAS}
        batch["observation.state"] = torch.from_numpy(inputs["observation.state"])[None]
        with torch.no_grad():
            mean = torch.tanh(theirs.actor(batch)[2][0])  # the third output is the mean before it is squashed
            values = theirs.critic_forward(batch, mean[None], use_target=False)[:, 0]
        action = ours.act(inputs)
        np.testing.assert_allclose(action[:3], mean.numpy(), rtol=0, atol=1e-5)
        np.testing.assert_allclose(ours.values(inputs, mean.numpy()), values.numpy(), rtol=0, atol=1e-5)
        if "num_discrete_actions" in settings:
            with torch.no_grad():
                grasps = theirs.discrete_critic(batch)[0]
            assert action[3] == int(grasps.argmax())
