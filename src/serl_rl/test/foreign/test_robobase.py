# SPDX-License-Identifier: Apache-2.0
"""DrQ-v2 policies of RoboBase, against a second writing of the network and against files with anything else in them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from foreign_files import Settings, drqv2_tensors, write_archive
from serl_rl.foreign.errors import ForeignError
from serl_rl.foreign.robobase.files import read_drqv2, write_drqv2
from serl_rl.foreign.robobase.policy import DrQv2Policy, open_policy

SIDE, STACK, STATE, ACTIONS = 31, 2, 5, 4
CONFIG = Settings(
    env=Settings(cameras=["wrist", "front"]),
    visual_observation_shape=[SIDE, SIDE],
    frame_stack=STACK,
    action_sequence=1,
    stddev="${env.cameras}",
    gain=0.01,
)


@pytest.fixture
def tensors() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return drqv2_tensors(rng, views=2, stack=STACK, side=SIDE, state=STATE, actions=ACTIONS, hidden=(16, 20))


def snapshot(path: Path, tensors: dict[str, Any], **changes: Any) -> Path:
    hidden = {"actor_model.hidden_state": np.zeros((1, 9, 128), np.float32)}
    copies = {f"actor.{name}": values for name, values in tensors.items() if name.startswith("actor_model.")}
    tree = {"_main_loop_iterations": 7, "agent": tensors | hidden | copies, "cfg": Settings(CONFIG | changes)}
    write_archive(path, tree)
    return path


def by_the_description(tensors: dict[str, Any], prefix: str, pictures: list[Any], state: Any, action: Any) -> Any:
    """The network as the format's description has it, by JAX's convolutions on channels first."""
    features = []
    for view, picture in enumerate(pictures):
        x = (picture.astype(np.float32) / 255.0 - 0.5)[None]
        for layer, stride in enumerate((2, 1, 1, 1)):
            name = f"encoder.convs_per_cam.{view}.{3 * layer}"
            x = jax.lax.conv(x, tensors[f"{name}.weight"], (stride, stride), "VALID", precision="highest")
            x = np.maximum(np.asarray(x) + tensors[f"{name}.bias"][:, None, None], 0.0)
        features.append(x.reshape(-1))

    def linear(name: str, x: Any) -> Any:
        return tensors[f"{name}.weight"].astype(np.float64) @ x + tensors[f"{name}.bias"]

    def bottleneck(name: str, x: Any) -> Any:
        y = linear(f"{prefix}.input_preprocess_modules.{name}.0", x)
        norm = f"{prefix}.input_preprocess_modules.{name}.1"
        y = (y - y.mean()) / np.sqrt(y.var() + 1e-5) * tensors[f"{norm}.weight"] + tensors[f"{norm}.bias"]
        return np.tanh(y)

    x = np.concatenate([bottleneck("fused_view_feats", np.concatenate(features)), bottleneck("low_dim_obs", state)])
    x = np.concatenate([x, action])
    for layer in (0, 3):
        x = np.maximum(linear(f"{prefix}.main_mlp.{layer}", x), 0.0)
    return linear(f"{prefix}.out_mlp.0", x)


def moments(seed: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [
        {
            "rgb_wrist": rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8),
            "rgb_front": rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8),
            "low_dim_state": rng.normal(size=STATE).astype(np.float32),
        }
        for _ in range(3)
    ]


def stacked(seen: list[dict[str, Any]]) -> tuple[list[Any], Any]:
    """Channels first, oldest first."""
    pictures = [
        np.concatenate([each[name] for each in seen], axis=-1).transpose(2, 0, 1) for name in ("rgb_wrist", "rgb_front")
    ]
    return pictures, np.concatenate([each["low_dim_state"] for each in seen])


def test_a_snapshot_acts_and_values_as_the_description_says(tmp_path: Path, tensors: dict[str, Any]) -> None:
    policy = open_policy(snapshot(tmp_path / "700_snapshot.pt", tensors))
    for seed in range(5):
        seen = moments(seed)
        policy.reset()
        history = [seen[0], *seen]  # the first moment fills the stack
        for step, moment in enumerate(seen):
            action = policy.act(moment)
            pictures, state = stacked(history[step : step + STACK])
            expected = np.tanh(by_the_description(tensors, "actor_model", pictures, state, []))
            np.testing.assert_allclose(action, expected, rtol=0, atol=1e-5)
            values = [by_the_description(tensors, f"critic.qs.{i}", pictures, state, action)[0] for i in range(2)]
            np.testing.assert_allclose(policy.value(action), values, rtol=0, atol=1e-5)


def test_a_written_directory_is_the_same_policy(tmp_path: Path, tensors: dict[str, Any]) -> None:
    checkpoint = read_drqv2(snapshot(tmp_path / "1_snapshot.pt", tensors))
    write_drqv2(tmp_path / "out", checkpoint)
    again = read_drqv2(tmp_path / "out")
    architecture = again.network.architecture
    assert architecture.cameras == ("observation.images.wrist", "observation.images.front")
    assert (architecture.picture, architecture.frame_stack, architecture.state) == ((SIDE, SIDE), STACK, STATE)
    for name, values in checkpoint.network.tensors.items():
        np.testing.assert_array_equal(again.network.tensors[name], values)
    with pytest.raises(ForeignError, match="a new directory"):
        write_drqv2(tmp_path / "out", checkpoint)


def test_of_a_folder_the_latest_numbered_snapshot_is_taken(tmp_path: Path, tensors: dict[str, Any]) -> None:
    for name in ("900_snapshot.pt", "1000_snapshot.pt", "best_snapshot.pt", "latest_snapshot.pt"):
        snapshot(tmp_path / name, tensors)
    assert read_drqv2(tmp_path).source.name == "1000_snapshot.pt"


def test_a_wrong_input_is_named(tmp_path: Path, tensors: dict[str, Any]) -> None:
    policy = DrQv2Policy(read_drqv2(snapshot(tmp_path / "1_snapshot.pt", tensors)).network)
    moment = moments(0)[0]
    with pytest.raises(ValueError, match="rgb_front: expected uint8"):
        policy.act({name: values for name, values in moment.items() if name != "rgb_front"})
    with pytest.raises(ValueError, match="low_dim_state: expected float32"):
        policy.act(moment | {"low_dim_state": np.zeros(STATE + 1, np.float32)})


def missing(tensors: dict[str, Any]) -> None:
    del tensors["critic.qs.1.out_mlp.0.bias"]


def renamed(tensors: dict[str, Any]) -> None:
    tensors["actor_model.mlp.0.weight"] = tensors.pop("actor_model.main_mlp.0.weight")


def not_finite(tensors: dict[str, Any]) -> None:
    tensors["actor_model.out_mlp.0.bias"][1] = np.nan


def of_another_size(tensors: dict[str, Any]) -> None:
    tensors["critic.qs.0.main_mlp.0.weight"] = np.zeros((16, 29), np.float32)


def recurrent(tensors: dict[str, Any]) -> None:
    tensors["actor_model.rnn.weight_ih_l0"] = np.zeros((3, 3), np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (missing, r"a tensor 'critic\.qs\.1\.out_mlp\.0\.bias'"),
        (renamed, r"actor_model\.m"),
        (not_finite, r"finite numbers in 'actor_model\.out_mlp\.0\.bias'"),
        (of_another_size, r"critic\.qs\.0\.main_mlp\.0\.weight of shape \(16, 28\), found \(16, 29\)"),
        (recurrent, "recurrent"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path: Path, tensors: dict[str, Any], change: Any, message: str) -> None:
    change(tensors)
    with pytest.raises(ForeignError, match=message):
        read_drqv2(snapshot(tmp_path / "1_snapshot.pt", tensors))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("norm_obs", True),
        ("frame_stack_on_channel", False),
        ("action_sequence", 4),
        ("frame_stack", "many"),
        ("visual_observation_shape", [84]),
    ],
)
def test_settings_that_change_the_policy_are_named(
    tmp_path: Path, tensors: dict[str, Any], name: str, value: Any
) -> None:
    with pytest.raises(ForeignError, match=name):
        read_drqv2(snapshot(tmp_path / "1_snapshot.pt", tensors, **{name: value}))


def test_nothing_but_tensors_and_containers_is_read(tmp_path: Path, tensors: dict[str, Any]) -> None:
    good = snapshot(tmp_path / "good.pt", tensors).read_bytes()
    code, packed, cut = tmp_path / "code.pt", tmp_path / "packed.pt", tmp_path / "cut.pt"
    write_archive(code, {"agent": tensors}, extra=b"cposix\nsystem\n(X\x04\x00\x00\x00touctR0")
    write_archive(packed, {"agent": tensors}, compression=zipfile.ZIP_DEFLATED)
    cut.write_bytes(good[: len(good) // 2])
    for path, message in ((code, "posix system"), (packed, "compressed"), (cut, "zip")):
        with pytest.raises(ForeignError, match=message):
            read_drqv2(path)
    with pytest.raises(ForeignError, match="nothing there"):
        read_drqv2(tmp_path / "absent")


def test_a_file_of_torch_itself_is_read_the_same(tmp_path: Path, tensors: dict[str, Any]) -> None:
    pytest.importorskip("torch.version", reason="./serl setup torch")  # a folder of tests has the name as well
    torch = pytest.importorskip("torch")
    path = tmp_path / "1_snapshot.pt"
    # A transposed tensor and two views of one storage, as checkpoints have them.
    state = {name: torch.from_numpy(values) for name, values in tensors.items()}
    name = "actor_model.out_mlp.0.weight"
    state[name] = torch.from_numpy(np.ascontiguousarray(tensors[name].T)).T
    torch.save({"agent": state, "cfg": dict(CONFIG, env=dict(CONFIG["env"]))}, path)
    for found, values in read_drqv2(path).network.tensors.items():
        np.testing.assert_array_equal(values, tensors[found])
