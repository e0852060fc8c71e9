# SPDX-License-Identifier: Apache-2.0
"""Policies and classifiers of LeRobot's HIL-SERL, against a second writing of the networks, and damaged ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray
from serl_config.optional import is_installed
from serl_rl.backends import load_classifier
from serl_rl.foreign.errors import ForeignError
from serl_rl.foreign.lerobot_sac.classifier import RewardClassifier
from serl_rl.foreign.lerobot_sac.policy import SacPolicy
from serl_rl.imported.classifier import import_classifier
from serl_rl.imported.initial import read_initial
from serl_rl.policy.reference import read_reference
from serl_rl.reward.data import FrameSource, View
from serl_rl.spec import DataError

Tensors = dict[str, NDArray[np.float32]]
CAMERAS = ("observation.images.wrist", "observation.images.front")
SIDE, STATE, ACTIONS, LATENT, HIDDEN, CHOICES = 64, 5, 3, 12, 16, 3
CONFIG: dict[str, Any] = {
    "type": "sac",
    "input_features": {
        CAMERAS[0]: {"type": "VISUAL", "shape": [3, SIDE, SIDE]},
        CAMERAS[1]: {"type": "VISUAL", "shape": [3, SIDE, SIDE]},
        "observation.state": {"type": "STATE", "shape": [STATE]},
    },
    "output_features": {"action": {"type": "ACTION", "shape": [ACTIONS]}},
    "num_discrete_actions": CHOICES,
    "vision_encoder_name": None,
    "shared_encoder": True,
}


class Drawn:
    """Random tensors with PyTorch's names and shapes."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self.tensors: Tensors = {}

    def put(self, name: str, *shape: int) -> None:
        scale = 1.0 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.3
        self.tensors[name] = self._rng.normal(0.0, scale, shape).astype(np.float32)

    def layer(self, name: str, *shape: int) -> None:
        self.put(f"{name}.weight", *shape)
        self.put(f"{name}.bias", shape[0])

    def mlp(self, name: str, inputs: int) -> None:
        for index, width in enumerate((inputs, HIDDEN)):
            self.layer(f"{name}.{3 * index}", HIDDEN, width)
            self.layer(f"{name}.{3 * index + 1}", HIDDEN)

    def encoder(self, name: str) -> None:
        for index, (inputs, kernel) in enumerate(((3, 7), (8, 5), (8, 3), (8, 3))):
            self.layer(f"{name}.image_encoder.image_enc_layers.{2 * index}", 8, inputs, kernel, kernel)
        for camera in CAMERAS:
            key = camera.replace(".", "_")
            self.put(f"{name}.spatial_embeddings.{key}.kernel", 8, 2, 2, 4)
            self.layer(f"{name}.post_encoders.{key}.1", LATENT, 32)
            self.layer(f"{name}.post_encoders.{key}.2", LATENT)
        self.layer(f"{name}.state_encoder.0", LATENT, STATE)
        self.layer(f"{name}.state_encoder.1", LATENT)


def sac_tensors(*, shared: bool = True, compiled: bool = False) -> Tensors:
    drawn = Drawn(1)
    drawn.encoder("actor.encoder")
    if not shared:
        drawn.encoder("critic_ensemble.encoder")
    drawn.mlp("actor.network.net", 3 * LATENT)
    drawn.layer("actor.mean_layer", ACTIONS, HIDDEN)
    drawn.layer("actor.std_layer", ACTIONS, HIDDEN)
    for prefix in ("critic_ensemble", "critic_target"):
        for index in range(2):
            drawn.mlp(f"{prefix}.critics.{index}.net.net", 3 * LATENT + ACTIONS)
            drawn.layer(f"{prefix}.critics.{index}.output_layer", 1, HIDDEN)
    for prefix in ("discrete_critic", "discrete_critic_target"):
        drawn.mlp(f"{prefix}.net.net", 3 * LATENT)
        drawn.layer(f"{prefix}.output_layer", CHOICES, HIDDEN)
    drawn.put("log_alpha", 1)
    drawn.tensors["discrete_critic.output_layer.bias"][:] = 0.0, 0.5, 1.0
    if not compiled:
        return drawn.tensors
    return {
        name.replace("critic_ensemble.", "critic_ensemble._orig_mod."): each for name, each in drawn.tensors.items()
    }


def write(folder: Path, tensors: Tensors, config: dict[str, Any] = CONFIG) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    safetensors.numpy.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def seen(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    pictures = {camera: rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for camera in CAMERAS}
    return pictures | {"observation.state": (3.0 * rng.normal(size=STATE)).astype(np.float32)}


class ByTheDescription:
    """The networks as the format's description has them: float64, JAX's convolutions on channels first."""

    def __init__(self, tensors: Tensors) -> None:
        self.tensors = {name: values.astype(np.float64) for name, values in tensors.items()}

    def linear(self, name: str, x: Any) -> Any:
        return self.tensors[f"{name}.weight"] @ x + self.tensors[f"{name}.bias"]

    def norm(self, name: str, x: Any) -> Any:
        y = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
        return y * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"]

    def mlp(self, name: str, x: Any) -> Any:
        for index in (0, 3):
            x = self.norm(f"{name}.{index + 1}", self.linear(f"{name}.{index}", x))
            x = x / (1.0 + np.exp(-x))
        return x

    def encoded(self, name: str, moment: dict[str, Any]) -> Any:
        parts = []
        for camera in CAMERAS:
            x = moment[camera].transpose(2, 0, 1)[None].astype(np.float32) / 255.0
            for index in range(4):
                layer = f"{name}.image_encoder.image_enc_layers.{2 * index}"
                x = jax.lax.conv(x, np.float32(self.tensors[f"{layer}.weight"]), (2, 2), "VALID", precision="highest")
                x = np.maximum(np.asarray(x) + self.tensors[f"{layer}.bias"][:, None, None], 0.0).astype(np.float32)
            key = camera.replace(".", "_")
            kernel = self.tensors[f"{name}.spatial_embeddings.{key}.kernel"]
            pooled = (x[0][..., None] * kernel).sum(axis=(1, 2)).reshape(-1)
            post = f"{name}.post_encoders.{key}"
            parts.append(np.tanh(self.norm(f"{post}.2", self.linear(f"{post}.1", pooled))))
        state = self.linear(f"{name}.state_encoder.0", moment["observation.state"])
        parts.append(np.tanh(self.norm(f"{name}.state_encoder.1", state)))
        return np.concatenate(parts)


@pytest.mark.parametrize(("shared", "compiled"), [(True, False), (True, True), (False, False)])
def test_a_policy_acts_and_values_as_the_description_says(tmp_path: Path, shared: bool, compiled: bool) -> None:
    policy = SacPolicy(
        write(tmp_path / "p", sac_tensors(shared=shared, compiled=compiled), CONFIG | {"shared_encoder": shared})
    )
    assert policy.outputs == ACTIONS + 1
    reference = ByTheDescription(sac_tensors(shared=shared))
    for seed in range(8):
        moment = seen(seed)
        action = policy.act(moment)
        x = reference.encoded("actor.encoder", moment)
        mean = reference.linear("actor.mean_layer", reference.mlp("actor.network.net", x))
        np.testing.assert_allclose(action[:ACTIONS], np.tanh(mean), rtol=0, atol=1e-5)
        y = x if shared else reference.encoded("critic_ensemble.encoder", moment)
        grasp = reference.linear("discrete_critic.output_layer", reference.mlp("discrete_critic.net.net", y))
        assert action[-1] == np.argmax(grasp)
        inputs = np.concatenate([y, action[:ACTIONS]])
        prefixes = [f"critic_ensemble.critics.{index}" for index in range(2)]
        values = [reference.linear(f"{p}.output_layer", reference.mlp(f"{p}.net.net", inputs))[0] for p in prefixes]
        np.testing.assert_allclose(policy.values(moment, action[:ACTIONS]), values, rtol=0, atol=1e-5)


def test_statistics_within_the_model_are_applied(tmp_path: Path) -> None:
    """Of LeRobot 0.3 and before; those of a picture have a number a colour."""
    rng = np.random.default_rng(3)
    low, high = rng.normal(size=STATE).astype(np.float32), rng.normal(3.0, 0.3, STATE).astype(np.float32)
    mean, deviation = np.full((3, 1, 1), 0.4, np.float32), np.full((3, 1, 1), 0.3, np.float32)
    statistics = {"normalize_inputs.buffer_observation_state.min": low}
    statistics["normalize_inputs.buffer_observation_state.max"] = high
    for camera in CAMERAS:
        statistics[f"normalize_inputs.buffer_{camera.replace('.', '_')}.mean"] = mean
        statistics[f"normalize_inputs.buffer_{camera.replace('.', '_')}.std"] = deviation
    policy = SacPolicy(write(tmp_path / "old", sac_tensors() | statistics))
    moment, reference = seen(5), ByTheDescription(sac_tensors())
    scaled = dict(moment)
    for camera in CAMERAS:
        scaled[camera] = (moment[camera] / 255.0 - 0.4) / 0.3 * 255.0
    scaled["observation.state"] = 2.0 * (moment["observation.state"] - low) / (high - low) - 1.0
    x = reference.mlp("actor.network.net", reference.encoded("actor.encoder", scaled))
    expected = np.tanh(reference.linear("actor.mean_layer", x))
    np.testing.assert_allclose(policy.act(moment)[:ACTIONS], expected, rtol=0, atol=1e-5)


def without(name: str) -> Tensors:
    return {found: values for found, values in sac_tensors().items() if found != name}


BAD: dict[str, tuple[Tensors, dict[str, Any], str]] = {
    "missing": (without("actor.mean_layer.bias"), CONFIG, r"actor\.mean_layer\.bias"),
    "surplus": (sac_tensors() | {"actor.other": np.zeros(3, np.float32)}, CONFIG, r"'actor\.other' too"),
    "nan": (sac_tensors() | {"actor.mean_layer.bias": np.full(ACTIONS, np.nan, np.float32)}, CONFIG, "finite"),
    "camera": (
        sac_tensors(),
        CONFIG
        | {
            "input_features": {
                "observation.images.top": {"shape": [3, SIDE, SIDE]},
                "observation.state": {"shape": [5]},
            }
        },
        "observation_images_top",
    ),
    "another state": (
        sac_tensors(),
        CONFIG | {"input_features": CONFIG["input_features"] | {"observation.state": {"shape": [6]}}},
        r"state_encoder\.0\.weight of shape \(any, 6\)",
    ),
    "another picture": (
        sac_tensors(),
        CONFIG | {"input_features": CONFIG["input_features"] | {CAMERAS[0]: {"shape": [3, 96, 96]}}},
        "spatial_embeddings",
    ),
    "encoder": (sac_tensors(), CONFIG | {"vision_encoder_name": "somebody/vit"}, "vision_encoder_name"),
    "option": (sac_tensors(), CONFIG | {"actor_network_kwargs": {"activate_final": False}}, "activate_final"),
    "type": (sac_tensors(), CONFIG | {"type": "act"}, '"type": "sac"'),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_named(tmp_path: Path, case: str) -> None:
    tensors, config, message = BAD[case]
    with pytest.raises(ForeignError, match=message):
        SacPolicy(write(tmp_path / "p", tensors, config))


def test_half_written_and_mixed_directories_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "p", sac_tensors())
    (folder / "policy_preprocessor.json").write_text("{}")
    with pytest.raises(ForeignError, match=r"policy_preprocessor\.json"):
        SacPolicy(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ForeignError, match="half written"):
        SacPolicy(folder)
    with pytest.raises(ForeignError, match="nothing there"):
        SacPolicy(tmp_path / "absent")


def test_wrong_inputs_are_named(tmp_path: Path) -> None:
    policy = SacPolicy(write(tmp_path / "p", sac_tensors()))
    moment = seen(0)
    with pytest.raises(DataError, match=r"observation\.images\.front: expected uint8"):
        policy.act(moment | {CAMERAS[1]: moment[CAMERAS[1]][:32]})


# --- the reward classifier -----------------------------------------------------------------------

BLOCKS = ((64, 1), (128, 2), (256, 2), (512, 2))


def classifier_tensors() -> Tensors:
    drawn = Drawn(2)
    drawn.put("encoder.embedder.0.weight", 64, 3, 7, 7)
    drawn.layer("encoder.embedder.1.group_norm", 64)
    inputs = 64
    for stage, (width, _) in enumerate(BLOCKS):
        name = f"encoder.encoder.stages.{stage}"
        drawn.put(f"{name}.conv1.conv.weight", width, inputs, 3, 3)
        drawn.put(f"{name}.conv2.conv.weight", width, width, 3, 3)
        drawn.layer(f"{name}.norm1.group_norm", width)
        drawn.layer(f"{name}.norm2.group_norm", width)
        if stage:
            drawn.put(f"{name}.shortcut.0.conv.weight", width, inputs, 1, 1)
            drawn.layer(f"{name}.shortcut.1.group_norm", width)
        inputs = width
    for camera in CAMERAS:
        key = camera.replace(".", "_")
        drawn.put(f"encoders.{key}.1.kernel", 512, 2, 2, 4)
        drawn.layer(f"encoders.{key}.3", LATENT, 2048)
        drawn.layer(f"encoders.{key}.4", LATENT)
    drawn.layer("classifier_head.0", HIDDEN, 2 * LATENT)
    drawn.layer("classifier_head.2", HIDDEN)
    drawn.layer("classifier_head.4", 1, HIDDEN)
    # Layer normalizations around one, or their scales die out over ten layers.
    return {name: v + 1.0 if "norm.weight" in name else v for name, v in drawn.tensors.items()}


CLASSIFIER = {
    "type": "reward_classifier",
    "input_features": {camera: {"type": "VISUAL", "shape": [3, SIDE, SIDE]} for camera in CAMERAS},
    "num_classes": 2,
    "num_cameras": 2,
    "model_name": "helper2424/resnet10",
}


def resnet_by_the_description(tensors: Tensors, picture: NDArray[np.uint8]) -> Any:
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    x = np.float32((picture / 255.0 - mean) / deviation).transpose(2, 0, 1)[None]

    def conv(name: str, x: Any, stride: int, padding: Any = "SAME") -> Any:
        return jax.lax.conv_general_dilated(
            x, tensors[f"{name}.weight"], (stride, stride), padding, precision="highest"
        )

    def norm(name: str, x: Any) -> Any:
        grouped = np.asarray(x, np.float64).reshape(4, -1)
        y = (grouped - grouped.mean(1, keepdims=True)) / np.sqrt(grouped.var(1, keepdims=True) + 1e-5)
        scale, bias = tensors[f"{name}.group_norm.weight"], tensors[f"{name}.group_norm.bias"]
        return np.float32(y.reshape(x.shape) * scale[:, None, None] + bias[:, None, None])

    x = np.maximum(norm("encoder.embedder.1", conv("encoder.embedder.0", x, 2, [(3, 3), (3, 3)])), 0.0)
    x = jax.lax.reduce_window(x, -np.inf, jax.lax.max, (1, 1, 3, 3), (1, 1, 2, 2), "SAME")
    for stage, (_, stride) in enumerate(BLOCKS):
        name = f"encoder.encoder.stages.{stage}"
        y = np.maximum(norm(f"{name}.norm1", conv(f"{name}.conv1.conv", x, stride)), 0.0)
        y = norm(f"{name}.norm2", conv(f"{name}.conv2.conv", y, 1))
        if stage:
            x = norm(f"{name}.shortcut.1", conv(f"{name}.shortcut.0.conv", x, stride))
        x = np.maximum(np.asarray(x) + y, 0.0)
    return np.asarray(x[0], np.float64)


def test_a_classifier_judges_as_the_description_says(tmp_path: Path) -> None:
    tensors = classifier_tensors()
    numbered = {
        name.replace("encoder.embedder.", "encoder.0.").replace("encoder.encoder.", "encoder.1."): each
        for name, each in tensors.items()
    }
    alias = {f"encoders.{CAMERAS[0].replace('.', '_')}.0.0.0.weight": tensors["encoder.embedder.0.weight"]}
    classifier = RewardClassifier(write(tmp_path / "c", numbered | alias, CLASSIFIER))
    reference = ByTheDescription(tensors)
    for seed in range(2):
        moment, parts = seen(seed), []
        for camera in CAMERAS:
            name = f"encoders.{camera.replace('.', '_')}"
            x = resnet_by_the_description(tensors, moment[camera])
            pooled = np.einsum("chw,chwf->cf", x, reference.tensors[f"{name}.1.kernel"]).reshape(-1)
            parts.append(np.tanh(reference.norm(f"{name}.4", reference.linear(f"{name}.3", pooled))))
        hidden = reference.norm("classifier_head.2", reference.linear("classifier_head.0", np.concatenate(parts)))
        logit = reference.linear("classifier_head.4", np.maximum(hidden, 0.0))
        np.testing.assert_allclose(classifier.probabilities(moment), 1.0 / (1.0 + np.exp(-logit)), rtol=0, atol=1e-5)


def test_a_classifier_becomes_one_of_ours_that_judges_the_same(tmp_path: Path) -> None:
    tensors = classifier_tensors()
    tensors = {
        name: each[:LATENT] if name.startswith("classifier_head") and len(each) == HIDDEN else each
        for name, each in tensors.items()
    }
    tensors["classifier_head.4.weight"] = tensors["classifier_head.4.weight"][:, :LATENT]
    theirs = write(tmp_path / "c", tensors, CLASSIFIER)
    # The cameras of the task stand in another order, by name, than LeRobot's.
    names = dict(zip(CAMERAS, ("wrist", "front"), strict=True))
    frames = FrameSource("a_task", {name: View(SIDE, SIDE) for name in names.values()})
    info = import_classifier(theirs, tmp_path / "ours.safetensors", frames, names, threshold=0.7, consecutive=3)
    assert (info.thresholds, info.consecutive, info.width) == ((0.7,), 3, LATENT)
    for backend in ("jax", *(["torch"] if is_installed("torch") else [])):
        ours, judge = load_classifier(tmp_path / "ours.safetensors", Path, backend), RewardClassifier(theirs)
        for seed in range(3):
            moment = seen(seed)
            success = judge.probabilities(moment)[0]
            found = ours.probabilities({names[name]: moment[name] for name in CAMERAS})
            np.testing.assert_allclose(found, [1.0 - success, success], rtol=0, atol=1e-4)
    with pytest.raises(ForeignError, match="cameras of a_task, each once: front, wrist, found"):
        import_classifier(theirs, tmp_path / "no", frames, {CAMERAS[0]: "front", CAMERAS[1]: "front"})
    with pytest.raises(ForeignError, match="pictures among"):
        import_classifier(theirs, tmp_path / "no", frames, {"observation.images.nobody": "front"})
    larger = FrameSource("a_task", {name: View(128, 128) for name in names.values()})
    with pytest.raises(ForeignError, match=r"of \(128, 128, 3\), as camera wrist of a_task"):
        import_classifier(theirs, tmp_path / "no", larger, names)
    wide = write(tmp_path / "wide", classifier_tensors(), CLASSIFIER)
    with pytest.raises(ForeignError, match="one width of all layers"):
        import_classifier(wide, tmp_path / "no", frames, names)
    assert not (tmp_path / "no").exists()


def test_no_agent_begins_with_eyes_and_grasps(tmp_path: Path) -> None:
    folder = write(tmp_path / "policy", sac_tensors())
    says = r"sac can go on learning from.*--from-policy.*found one with observation.images.wrist.*a discrete critic"
    with pytest.raises(ForeignError, match=says):
        read_initial(read_reference(f"lerobot_sac:{folder}"))


@pytest.fixture(scope="module")
def damaged() -> Iterator[Tensors]:
    yield classifier_tensors()


@pytest.mark.parametrize(
    ("drop", "changes", "message"),
    [
        ("encoder.encoder.stages.2.shortcut.0.conv.weight", {}, r"stages\.2\.shortcut"),
        ("", {"num_cameras": 1}, "num_cameras 2"),
        ("", {"model_name": "somebody/vit"}, "model_name"),
        ("", {"num_classes": 5}, r"classifier_head\.4\.weight of shape \(5"),
        (
            "",
            {"input_features": {"observation.images.top": {"shape": [3, SIDE, SIDE]}}, "num_cameras": 1},
            "images_top",
        ),
    ],
)
def test_what_does_not_fit_a_classifier_is_named(
    tmp_path: Path, damaged: Tensors, drop: str, changes: dict[str, Any], message: str
) -> None:
    tensors = {name: values for name, values in damaged.items() if name != drop}
    with pytest.raises(ForeignError, match=message):
        RewardClassifier(write(tmp_path / "c", tensors, CLASSIFIER | changes))
