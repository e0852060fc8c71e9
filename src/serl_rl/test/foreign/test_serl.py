# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of SERL and HIL-SERL as flax and orbax write them, against a second writing of the networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flax.serialization
import jax
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict
from numpy.typing import NDArray
from serl_rl.encoders.architecture import parameter_shapes
from serl_rl.foreign.errors import ForeignError
from serl_rl.foreign.resnet10 import ResNet10, normalized
from serl_rl.foreign.serl.policy import SerlPolicy, open_policy, write_serl
from serl_rl.imported.published import published_policy
from serl_rl.spec import DataError, TransitionSpec

CAMERAS, STATE, ACTIONS, HIDDEN, WIDTH, SIDE = ("wrist", "front"), 5, 6, 16, 12, 64
ENCODER = "modules_actor/encoder"
Parameters = dict[str, NDArray[Any]]


def drawn_parameters(*, hybrid: bool) -> Parameters:
    rng = np.random.default_rng(0)
    found: Parameters = {}

    def put(name: str, *shape: int, around: float = 0.0) -> None:
        scale = 1.0 / np.sqrt(np.prod(shape[:-1])) if name.endswith("kernel") else 0.2
        found[name] = (around + rng.normal(0.0, scale, shape)).astype(np.float32)

    def layer(prefix: str, index: int, *shape: int, norm: bool = True) -> None:
        put(f"{prefix}/Dense_{index}/kernel", *shape)
        if len(shape) == 3:  # of an ensemble, whose scale the first axis does not change
            found[f"{prefix}/Dense_{index}/kernel"] *= np.sqrt(np.float32(shape[0]))
        outer = (*shape[:-2], shape[-1])
        put(f"{prefix}/Dense_{index}/bias", *outer)
        if norm:
            put(f"{prefix}/LayerNorm_{index}/scale", *outer, around=1.0)
            put(f"{prefix}/LayerNorm_{index}/bias", *outer)

    for name, shape in parameter_shapes("resnet10").items():
        full = f"{ENCODER}/encoder_{CAMERAS[0]}/pretrained_encoder/{name}"
        put(full, *shape, around=1.0 if name.endswith("scale") else 0.0)
    for camera in CAMERAS:
        put(f"{ENCODER}/encoder_{camera}/SpatialLearnedEmbeddings_0/kernel", 2, 2, 512, 4)
        layer(f"{ENCODER}/encoder_{camera}", 0, 2048, WIDTH)
    layer(ENCODER, 0, STATE, 8)
    width = 2 * WIDTH + 8
    layer("modules_actor/network", 0, width, HIDDEN)
    layer("modules_actor/network", 1, HIDDEN, HIDDEN)
    layer("modules_actor", 0, HIDDEN, ACTIONS, norm=False)
    layer("modules_actor", 1, HIDDEN, ACTIONS, norm=False)
    critic = "modules_critic/network/VmapMLP_0" if hybrid else "modules_critic/network"
    layer(critic, 0, 3, width + ACTIONS, HIDDEN)
    layer(critic, 1, 3, HIDDEN, HIDDEN)
    layer("modules_critic", 0, HIDDEN, 1, norm=False)
    if hybrid:
        layer("modules_grasp_critic/network", 0, width, HIDDEN)
        layer("modules_grasp_critic/network", 1, HIDDEN, HIDDEN, norm=False)
        layer("modules_grasp_critic", 0, HIDDEN, 3, norm=False)
        found["modules_grasp_critic/Dense_0/bias"] += np.float32([0.0, 0.4, 0.8])
    found["modules_temperature/lagrange"] = np.float32(0.3)[()] * np.ones((), np.float32)
    return found


def saved(parameters: Parameters) -> dict[str, Any]:
    tree = unflatten_dict(parameters, sep="/")
    return {"step": np.int64(7), "params": tree, "target_params": tree, "rng": np.zeros(2, np.uint32)}


def write_msgpack(path: Path, parameters: Parameters) -> Path:
    path.write_bytes(flax.serialization.msgpack_serialize(saved(parameters)))
    return path


def seen(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    pictures = {camera: rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for camera in CAMERAS}
    return pictures | {"state": rng.normal(size=STATE).astype(np.float32)}


class ByTheDescription:
    """The networks as the format's description has them, in float64 but for JAX's convolutions."""

    def __init__(self, parameters: Parameters) -> None:
        self.p = {name: values.astype(np.float64) for name, values in parameters.items()}

    def dense(self, name: str, x: Any, member: Any = ...) -> Any:
        return x @ self.p[f"{name}/kernel"][member] + self.p[f"{name}/bias"][member]

    def norm(self, name: str, x: Any, member: Any = ...) -> Any:
        y = (x - x.mean()) / np.sqrt(x.var() + 1e-6)
        return y * self.p[f"{name}/scale"][member] + self.p[f"{name}/bias"][member]

    def layer(self, prefix: str, index: int, x: Any, member: Any = ...) -> Any:
        y = self.dense(f"{prefix}/Dense_{index}", x, member)
        return np.tanh(self.norm(f"{prefix}/LayerNorm_{index}", y, member))

    def resnet(self, picture: NDArray[np.uint8]) -> Any:
        prefix = f"{ENCODER}/encoder_{CAMERAS[0]}/pretrained_encoder"
        x = (picture / 255.0 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])

        def conv(name: str, x: Any, stride: int, padding: Any = "SAME") -> Any:
            kernel = np.float32(self.p[f"{prefix}/{name}/kernel"])
            numbers = ("NHWC", "HWIO", "NHWC")
            return jax.lax.conv_general_dilated(
                np.float32(x), kernel, (stride, stride), padding, dimension_numbers=numbers, precision="highest"
            )

        def norm(name: str, x: Any) -> Any:
            x = np.asarray(x, np.float64)[0]
            grouped = x.reshape(-1, 4, x.shape[-1] // 4)
            mean, variance = grouped.mean((0, 2), keepdims=True), grouped.var((0, 2), keepdims=True)
            y = ((grouped - mean) / np.sqrt(variance + 1e-5)).reshape(x.shape)
            return (y * self.p[f"{prefix}/{name}/scale"] + self.p[f"{prefix}/{name}/bias"])[None]

        x = np.maximum(norm("norm_init", conv("conv_init", x[None], 2, [(3, 3), (3, 3)])), 0.0)
        x = jax.lax.reduce_window(np.float32(x), -np.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
        for block, stride in enumerate((1, 2, 2, 2)):
            name = f"ResNetBlock_{block}"
            y = np.maximum(norm(f"{name}/MyGroupNorm_0", conv(f"{name}/Conv_0", x, stride)), 0.0)
            y = norm(f"{name}/MyGroupNorm_1", conv(f"{name}/Conv_1", y, 1))
            if block:
                x = norm(f"{name}/norm_proj", conv(f"{name}/conv_proj", x, stride))
            x = np.maximum(np.asarray(x) + y, 0.0)
        return x[0]

    def encoded(self, moment: dict[str, Any]) -> Any:
        parts = []
        for camera in CAMERAS:
            kernel = self.p[f"{ENCODER}/encoder_{camera}/SpatialLearnedEmbeddings_0/kernel"]
            pooled = (self.resnet(moment[camera])[..., None] * kernel).sum((0, 1)).reshape(-1)
            parts.append(self.layer(f"{ENCODER}/encoder_{camera}", 0, pooled))
        return np.concatenate([*parts, self.layer(ENCODER, 0, moment["state"])])


@pytest.mark.parametrize("hybrid", [False, True])
def test_a_checkpoint_acts_and_values_as_the_description_says(tmp_path: Path, hybrid: bool) -> None:
    parameters = drawn_parameters(hybrid=hybrid)
    policy = open_policy(write_msgpack(tmp_path / "checkpoint_7", parameters))
    assert policy.cameras == list(CAMERAS)
    reference = ByTheDescription(parameters)
    for seed in range(3):
        moment = seen(seed)
        action = policy.act(moment)
        x = reference.encoded(moment)
        y = reference.layer("modules_actor/network", 1, reference.layer("modules_actor/network", 0, x))
        mean = np.tanh(reference.dense("modules_actor/Dense_0", y))
        np.testing.assert_allclose(action[:ACTIONS], mean, rtol=0, atol=1e-5)
        if hybrid:
            z = reference.layer("modules_grasp_critic/network", 0, x)
            z = reference.dense("modules_grasp_critic/network/Dense_1", z)
            assert action[ACTIONS] == np.argmax(reference.dense("modules_grasp_critic/Dense_0", z)) - 1
        prefix = "modules_critic/network/VmapMLP_0" if hybrid else "modules_critic/network"
        values = []
        for member in range(3):
            z = np.concatenate([x, action[:ACTIONS]])
            z = reference.layer(prefix, 1, reference.layer(prefix, 0, z, member), member)
            values.append(reference.dense("modules_critic/Dense_0", z)[0])
        np.testing.assert_allclose(policy.values(moment, action[:ACTIONS]), values, rtol=0, atol=1e-5)


def test_published_parameters_act_and_explore_as_the_description_says() -> None:
    parameters = drawn_parameters(hybrid=False)
    reference, moment = ByTheDescription(parameters), seen(1)
    spec = TransitionSpec(
        {"state": ((STATE,), "float32"), **dict.fromkeys(CAMERAS, ((SIDE, SIDE, 3), "uint8"))}, ACTIONS
    )
    policy = published_policy(parameters, spec)
    policy.check(spec)
    y = reference.encoded(moment)
    for index in range(2):
        y = reference.layer("modules_actor/network", index, y)
    mean = reference.dense("modules_actor/Dense_0", y)
    deviation = np.exp(reference.dense("modules_actor/Dense_1", y))
    best = policy.act(moment, deterministic=True)
    np.testing.assert_allclose(best, np.tanh(mean), rtol=0, atol=1e-5)
    noise = np.random.default_rng(3).standard_normal(ACTIONS, dtype=np.float32)
    found = policy.act(moment, deterministic=False, rng=np.random.default_rng(3))
    np.testing.assert_allclose(found, np.tanh(mean + deviation * noise), rtol=0, atol=1e-5)
    with pytest.raises(DataError, match="6 components, as the policy gives"):
        published_policy(parameters, TransitionSpec(dict(spec.observation), ACTIONS + 1))
    with pytest.raises(DataError, match="expected those of an agent of SERL, modules_actor among them, found trunk"):
        published_policy({"trunk/dense_0/kernel": np.zeros((2, 2), np.float32)}, spec)


@pytest.mark.parametrize("hybrid", [False, True])
def test_a_checkpoint_of_states_alone_acts_without_an_encoder(tmp_path: Path, hybrid: bool) -> None:
    width = drawn_parameters(hybrid=hybrid)["modules_actor/network/Dense_0/kernel"].shape[0]
    parameters = {name: p for name, p in drawn_parameters(hybrid=hybrid).items() if not name.startswith(ENCODER)}
    policy = open_policy(write_msgpack(tmp_path / "checkpoint_7", parameters))
    assert policy.inputs == {"state": (width,)}
    write_serl(tmp_path / "out", policy)
    reference = ByTheDescription(parameters)
    x = np.random.default_rng(0).normal(size=width).astype(np.float32)
    y = reference.layer("modules_actor/network", 1, reference.layer("modules_actor/network", 0, x))
    for found in (policy, open_policy(tmp_path / "out")):
        action = found.act({"state": x})
        mean = np.tanh(reference.dense("modules_actor/Dense_0", y))
        np.testing.assert_allclose(action[:ACTIONS], mean, rtol=0, atol=1e-5)
        assert len(action) == found.outputs == ACTIONS + hybrid
    with pytest.raises(DataError, match="state"):
        policy.act({"state": x[1:]})


def test_the_sides_of_a_picture_are_padded_each_for_itself() -> None:
    """Of a side that is odd after some halving another place is added than of an even one."""
    parameters = drawn_parameters(hybrid=False)
    picture = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    prefix = f"{ENCODER}/encoder_{CAMERAS[0]}/pretrained_encoder/"
    own = {n.removeprefix(prefix): values for n, values in parameters.items() if n.startswith(prefix)}
    found, expected = ResNet10(own)(normalized(picture)), ByTheDescription(parameters).resnet(picture)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_orbax_and_a_written_directory_hold_the_same(tmp_path: Path) -> None:
    checkpointing = pytest.importorskip("orbax.checkpoint", reason="comes with flax")
    parameters = drawn_parameters(hybrid=True)
    folder = tmp_path / "run"
    folder.mkdir()
    for step in (900, 1000):  # the later one is taken
        changed = parameters | {"modules_temperature/lagrange": np.full((), step, np.float32)}
        checkpointing.PyTreeCheckpointer().save(folder / f"checkpoint_{step}", saved(changed))
    policy = open_policy(folder)
    assert policy.parameters["modules_temperature/lagrange"] == 1000
    write_serl(tmp_path / "out", policy)
    again = open_policy(tmp_path / "out")
    assert again.cameras == list(CAMERAS)
    for name, values in parameters.items():
        if "temperature" not in name:
            np.testing.assert_array_equal(policy.parameters[name], values)
            np.testing.assert_array_equal(again.parameters[name], values)
    with pytest.raises(ForeignError, match="a new directory"):
        write_serl(tmp_path / "out", policy)
    for file in (folder / "checkpoint_1000" / "d").iterdir():  # half written
        file.unlink()
    for file in (folder / "checkpoint_1000").glob("ocdbt.process_*/d/*"):
        file.unlink()
    with pytest.raises(ForeignError, match=r"an array params\."):
        open_policy(folder)


@pytest.fixture(scope="module")
def parameters() -> Parameters:
    return drawn_parameters(hybrid=True)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("modules_actor/Dense_0/bias", None, r"modules_actor/Dense_0/bias: an array"),
        ("modules_actor/network/Dense_0/kernel", (33, HIDDEN), r"network/Dense_0/kernel: float32 \(32, any\)"),
        ("modules_other/kernel", (3,), "modules_other"),
        (f"{ENCODER}/encoder_top/SpatialLearnedEmbeddings_0/kernel", (2, 2, 512, 4), "image_keys"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, parameters: Parameters, name: str, shape: Any, message: str
) -> None:
    changed = {found: values for found, values in parameters.items() if found != name}
    if shape is not None:
        changed[name] = np.zeros(shape, np.float32)
    with pytest.raises(ForeignError, match=message):
        open_policy(write_msgpack(tmp_path / "checkpoint_1", changed))


def test_numbers_that_are_none_wrong_cameras_and_damaged_files_are_named(
    tmp_path: Path, parameters: Parameters
) -> None:
    bad = parameters | {"modules_actor/Dense_0/bias": np.full(ACTIONS, np.nan, np.float32)}
    with pytest.raises(ForeignError, match="finite values"):
        SerlPolicy(tmp_path, bad)
    with pytest.raises(ForeignError, match="image_keys: front, wrist, first wrist"):
        SerlPolicy(tmp_path, parameters, ["front", "wrist"])
    whole = write_msgpack(tmp_path / "checkpoint_1", parameters).read_bytes()
    for name, content in (("cut", whole[:-40]), ("text", b"no checkpoint"), ("code", b"cos\nsystem\n(S'true'\ntR.")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ForeignError, match="a checkpoint of flax or orbax"):
            open_policy(tmp_path / name)
    with pytest.raises(ForeignError, match="nothing there"):
        open_policy(tmp_path / "absent")
    policy = SerlPolicy(tmp_path, parameters)
    with pytest.raises(DataError, match="front: expected uint8"):
        policy.act({"wrist": seen(0)["wrist"], "state": seen(0)["state"]})
