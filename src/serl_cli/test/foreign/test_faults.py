# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with a policy of another stack, for every kind of it: one clear line, and nothing is written."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray
from serl_cli.app import main
from serl_rl.config import LearningConfig
from serl_rl.foreign.act.config import ActConfig, ActFeature
from serl_rl.foreign.act.directory import ActCheckpoint
from serl_rl.foreign.act.parameters import parameter_shapes
from serl_rl.foreign.act.writing import write_act
from serl_rl.foreign.robobase.files import DrQv2Checkpoint, write_drqv2
from serl_rl.foreign.robobase.network import Architecture, DrQv2Network
from serl_training.link.contract import check_imported

from serl_tasks import get_task

TASK = "pick_cube"
STATE = get_task(TASK).observation_space["state"].shape[0]
ACTIONS = get_task(TASK).action_space.shape[0]

Tensors = dict[str, NDArray[np.float32]]


def drawn(shapes: dict[str, tuple[int, ...]]) -> Tensors:
    rng = np.random.default_rng(0)
    return {name: rng.normal(0.0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


def put(path: Path, tensors: Tensors, config: dict[str, Any]) -> None:
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    safetensors.numpy.save_file(tensors, path / "model.safetensors", {"format": "pt"})


def drqv2(path: Path, state: int, camera: str = "") -> None:
    cameras = (f"observation.images.{camera}",) if camera else ()
    pictures: Any = ((24, 24), 1, state, ACTIONS, 1, 3, 4, 3) if camera else ((0, 0), 1, state, ACTIONS, 0, 0, 0, 0)
    sizes = Architecture(cameras, *pictures, 5, (6, 7), 2, 1)
    write_drqv2(path, DrQv2Checkpoint(path, DrQv2Network(sizes, drawn(sizes.shapes))))


def act(path: Path, state: int, camera: str = "") -> None:
    inputs = {"observation.state": ActFeature("STATE", (state,))}
    inputs |= {f"observation.images.{camera}": ActFeature("VISUAL", (3, 32, 32))} if camera else {}
    if not camera:
        inputs["observation.environment_state"] = ActFeature("ENV", (state,))
    config = ActConfig(
        input_features=inputs,
        output_features={"action": ActFeature("ACTION", (ACTIONS,))},
        chunk_size=5,
        n_action_steps=2,
        dim_model=8,
        n_heads=2,
        dim_feedforward=8,
        n_encoder_layers=1,
        use_vae=False,
    )
    statistics = {
        name: {
            kind: np.ones(feature.shape if feature.type != "VISUAL" else (3, 1, 1), np.float32)
            for kind in ("mean", "std")
        }
        for name, feature in config.features.items()
    }
    write_act(path, ActCheckpoint(config, drawn(parameter_shapes(config)), statistics))


def lerobot_sac(path: Path, state: int, camera: str = "") -> None:
    shapes: dict[str, tuple[int, ...]] = {}

    def layer(name: str, outputs: int, inputs: int = 0) -> None:
        shapes[f"{name}.weight"] = (outputs, inputs) if inputs else (outputs,)
        shapes[f"{name}.bias"] = (outputs,)

    def mlp(name: str, inputs: int) -> None:
        for index, width in enumerate((inputs, 6)):
            layer(f"{name}.{3 * index}", 6, width)
            layer(f"{name}.{3 * index + 1}", 6)

    layer("actor.encoder.state_encoder.0", 5, state)
    layer("actor.encoder.state_encoder.1", 5)
    mlp("actor.network.net", 5)
    layer("actor.mean_layer", ACTIONS, 6)
    layer("actor.std_layer", ACTIONS, 6)
    for prefix in ("critic_ensemble", "critic_target"):
        for each in range(2):
            mlp(f"{prefix}.critics.{each}.net.net", 5 + ACTIONS)
            layer(f"{prefix}.critics.{each}.output_layer", 1, 6)
    shapes["log_alpha"] = (1,)
    features: dict[str, Any] = {"observation.state": {"type": "STATE", "shape": [state]}}
    if camera:
        features[f"observation.images.{camera}"] = {"type": "VISUAL", "shape": [3, 64, 64]}
    outputs = {"action": {"type": "ACTION", "shape": [ACTIONS]}}
    put(path, drawn(shapes), {"type": "sac", "input_features": features, "output_features": outputs})


def flax(path: Path, state: int, camera: str = "") -> None:
    shapes: dict[str, tuple[int, ...]] = {}

    def layer(prefix: str, index: int, inputs: int, outputs: int, *members: int) -> None:
        shapes[f"{prefix}/Dense_{index}/kernel"] = (*members, inputs, outputs)
        shapes[f"{prefix}/Dense_{index}/bias"] = (*members, outputs)
        for name in ("scale", "bias"):
            shapes[f"{prefix}/LayerNorm_{index}/{name}"] = (*members, outputs)

    layer("modules_actor/encoder", 0, state, 5)
    for index, inputs in enumerate((5, 6)):
        layer("modules_actor/network", index, inputs, 6)
        layer("modules_critic/network", index, inputs + (ACTIONS if index == 0 else 0), 6, 2)
    for prefix, outputs in (
        ("modules_actor/Dense_0", ACTIONS),
        ("modules_actor/Dense_1", ACTIONS),
        ("modules_critic/Dense_0", 1),
    ):
        shapes |= {f"{prefix}/kernel": (6, outputs), f"{prefix}/bias": (outputs,)}
    put(path, drawn(shapes), {"type": "serl", "image_keys": [camera] if camera else []})


KINDS: dict[str, Callable[..., None]] = {"drqv2": drqv2, "act": act, "lerobot_sac": lerobot_sac, "flax": flax}
UNKNOWN_OPTION = {
    "drqv2": {"use_rnn": True},
    "act": {"n_experts": 2},
    "lerobot_sac": {"vision_encoder_name": "somebody/vit"},
    "flax": {"type": "serl2"},
}
CHANGED = {
    "drqv2": "actor.actor_model.out_mlp.0.bias",
    "act": "model.action_head.bias",
    "lerobot_sac": "actor.mean_layer.bias",
    "flax": "modules_actor/Dense_0/bias",
}


def change(path: Path, kind: str, function: Callable[[Tensors, str], None]) -> None:
    file = path / "model.safetensors"
    tensors = safetensors.numpy.load_file(file)
    function(tensors, CHANGED[kind])
    safetensors.numpy.save_file(tensors, file, {"format": "pt"})


def missing(path: Path, kind: str) -> None:
    change(path, kind, lambda tensors, name: tensors.__delitem__(name))


def renamed(path: Path, kind: str) -> None:
    change(path, kind, lambda tensors, name: tensors.update({f"{name}2": tensors.pop(name)}))


def not_a_number(path: Path, kind: str) -> None:
    change(path, kind, lambda tensors, name: tensors[name].fill(np.nan))


def too_wide(path: Path, kind: str) -> None:
    change(path, kind, lambda tensors, name: tensors.update({name: np.zeros(ACTIONS + 1, np.float32)}))


def of_another_task(path: Path, kind: str) -> None:
    for file in path.iterdir():
        file.unlink()
    path.rmdir()
    KINDS[kind](path, 3)


def wrong_camera(path: Path, kind: str) -> None:
    of_another_task(path, kind)
    for file in path.iterdir():
        file.unlink()
    path.rmdir()
    KINDS[kind](path, STATE, "nobody")


def unknown_option(path: Path, kind: str) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | UNKNOWN_OPTION[kind]))


def of_another_kind(path: Path, kind: str) -> None:
    (path / "config.json").write_text(json.dumps({"type": "smolvla"}))


def code(path: Path, kind: str) -> None:
    class Code:
        def __reduce__(self) -> Any:
            return Path.touch, (path.parent / "executed",)

    (path / "model.safetensors").write_bytes(pickle.dumps(Code()))


def cut(path: Path, kind: str) -> None:
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-40])


def without_weights(path: Path, kind: str) -> None:
    (path / "model.safetensors").unlink()


def empty(path: Path, kind: str) -> None:
    for file in path.iterdir():
        file.unlink()


def broken_settings(path: Path, kind: str) -> None:
    (path / "config.json").write_text('{"type": ')


FAULTS = (
    *(missing, renamed, not_a_number, too_wide, of_another_task, wrong_camera, unknown_option, of_another_kind),
    *(code, cut, without_weights, empty, broken_settings),
)


def digest(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SERL_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_policy_is_one_clear_line_before_anything_starts(
    in_folder: Path, capsys: pytest.CaptureFixture[str], kind: str, fault: Callable[[Path, str], None]
) -> None:
    path = in_folder / "policy"
    KINDS[kind](path, STATE)
    fault(path, kind)
    before = digest(in_folder)
    reference = f"{kind}:{path}"
    commands = [("eval", TASK, "--policy", reference), ("train", TASK, "--from-policy", reference)]
    if kind == "drqv2":
        commands.append(("train", TASK, "--learning", "drqv2", "--init-from", reference))
    if kind in ("act", "flax") and fault not in (of_another_task, wrong_camera):  # those are whole, for somebody else
        commands.append(("policy", "import", kind, str(path), "--out", str(in_folder / "out.safetensors")))
    for command in commands:
        assert main(list(command)) != 0, command
        said = capsys.readouterr()
        assert said.err.count("\n") == 1, said.err
        assert "expected" in said.err and "found" in said.err, said.err
        assert not said.out
    assert digest(in_folder) == before
    assert not (in_folder / "runs").exists()


def test_the_policies_of_these_tests_are_good_without_a_fault(in_folder: Path) -> None:
    for kind, make in KINDS.items():
        if kind != "act":  # has no policy of the task's state alone
            make(in_folder / kind, STATE)
            check_imported(f"{kind}:{in_folder / kind}", "", get_task(TASK), LearningConfig())
