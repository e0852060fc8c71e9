# SPDX-License-Identifier: Apache-2.0
"""Four devices learn what one learns. A CPU is split into four in a process of its own, before JAX begins there."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from serl_config.schema import ConfigError, build
from serl_rl.config import LearningConfig, SACConfig
from serl_rl.devices import DeviceError, number_of

from serl_rl import devices

PROGRAM = """
import json

import jax
import numpy as np
from serl_rl.backends import create_agent
from serl_rl.config import BCConfig, DrQv2Config, EncoderConfig, LearningConfig, SACConfig, VICEConfig, VisionConfig
from serl_rl.config import Gripper, HybridConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.replay.buffer import empty_batch
from serl_rl.replay.sampler import sampling_of
from serl_rl.spec import TransitionSpec

jax.config.update("jax_disable_most_optimizations", True)  # it is not speed that is compared


def learned(name, devices, split="rows", frozen=None, rows=16):
    seen = {"state": ((3,), "float32")} | ({} if frozen is None else {"front": ((16, 16, 3), "uint8")})
    spec = TransitionSpec(seen, 2)
    config = LearningConfig(
        agent=name, devices=devices, split=split, batch_size=rows,
        sac=SACConfig(hidden_sizes=(8,), critics=4, critic_subset=2, backup_entropy=True),
        drqv2=DrQv2Config(hidden_sizes=(8,)), bc=BCConfig(hidden_sizes=(8,)), vice=VICEConfig(hidden_sizes=(8,)),
        hybrid=HybridConfig(grippers=(Gripper(index=0),), grasp_hidden_sizes=(8,)),
        vision=VisionConfig(
            encoder=EncoderConfig(weights="random", frozen=bool(frozen), cached=False, shift=2), embeddings=2, width=5
        ),
    )
    agent = create_agent(0, spec, config, None if frozen is None else Encoder.random("small", 0))
    losses = []
    for number in range(4):
        if number == 2 and devices != 1:  # as after a checkpoint
            agent = create_agent(9, spec, config, None if frozen is None else Encoder.random("small", 0)).with_arrays(
                agent.arrays()
            )
        rng = np.random.default_rng(number)
        batch = empty_batch(spec, (1, 2, rows), sampling_of(config))
        if name == "vice":
            batch["goal"] = empty_batch(spec, (1, 2, rows // 2))["next_observation"]
        for entry in batch.values():
            for leaf in entry.values() if isinstance(entry, dict) else [entry]:
                low, high = (0, 256) if leaf.dtype == np.uint8 else (-1.0, 1.0)
                leaf[...] = rng.uniform(low, high, leaf.shape)
        agent, info = agent.update(batch)
        losses.append({name: float(value) for name, value in info.items()})
    lies = {str(leaf.sharding.spec) for leaf in jax.tree.leaves(getattr(agent, "agent", agent))} if devices != 1 else {}
    return agent.arrays(), losses, sorted(lies)


def compared(*case, **options):
    first, ours, _ = learned(case[0], 1, **options)
    arrays, losses, lies = learned(case[0], "all", *case[1:], **options)
    assert arrays.keys() == first.keys()
    worst = max((float(np.max(np.abs(arrays[name].astype(float) - first[name]))), name) for name in first)
    loss = max(abs(a[name] - b[name]) / (1.0 + abs(a[name])) for a, b in zip(ours, losses) for name in a)
    return {"array": worst, "loss": loss, "lies": lies}


print(json.dumps({
    "devices": len(jax.devices()),
    "sac": compared("sac"),
    "critics": compared("sac", "critics"),
    "drqv2": compared("drqv2"),
    "hybrid": compared("hybrid"),
    "vice": compared("vice", rows=4),  # two goals in each minibatch: fewer than devices
    "bc": compared("bc"),
    "pictures": compared("sac", frozen=True),
}))
"""


@pytest.mark.timeout(600)  # seven updates are compiled twice
def test_four_devices_learn_what_one_learns() -> None:
    flags = "--xla_force_host_platform_device_count=4 --xla_cpu_multi_thread_eigen=false"
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert told.returncode == 0, told.stderr[-2000:]
    found = json.loads(told.stdout)
    assert found.pop("devices") == 4
    for case, differences in found.items():
        # Adam makes steps of one size of whatever slopes: where one was near zero, the step shows its rounding.
        assert differences["array"][0] < (2e-4 if case == "pictures" else 1e-5), (case, differences)
        assert differences["loss"] < 1e-5, (case, differences)
        assert differences["lies"] == (["P('critics',)", "P()"] if case == "critics" else ["P()"]), case


@pytest.mark.parametrize("value", [0, -1, "two", True, 1.5, None, 10**6])
def test_what_is_no_number_of_devices_is_refused_in_one_line(value: object) -> None:
    with pytest.raises(ConfigError, match=r"^f\.yaml: 'devices': expected a number of devices from 1 to 1024, or all"):
        build(LearningConfig, {"devices": value}, "f.yaml")


def test_what_is_split_divides_by_the_devices() -> None:
    with pytest.raises(ConfigError, match=r"a divisor of batch_size \(1, 2, 4, .*\), found 3 with batch_size 256$"):
        build(LearningConfig, {"devices": 3, "batch_size": 256}, "f.yaml")
    critics = {"devices": 3, "batch_size": 256, "split": "critics"}
    assert build(LearningConfig, {**critics, "sac": {"critics": 6}}, "f.yaml").devices == 3
    with pytest.raises(ConfigError, match=r"a divisor of sac\.critics \(1, 2, 4\), found 3 with sac\.critics 4$"):
        build(LearningConfig, {**critics, "sac": {"critics": 4}}, "f.yaml")
    with pytest.raises(ConfigError, match=r"split: .* expected rows with bc, found critics"):
        build(LearningConfig, {"agent": "bc", "split": "critics"}, "f.yaml")
    with pytest.raises(DeviceError, match="a divisor of batch_size"):  # what `all` is, only the machine says
        LearningConfig(devices="all", sac=SACConfig()).check_split(3)


def test_more_devices_than_there_are_are_refused_with_what_there_is() -> None:
    assert number_of("all", ["cuda:0", "cuda:1"]) == 2
    assert number_of(2, ["cuda:0", "cuda:1"]) == 2
    with pytest.raises(DeviceError, match=r"at most 2, for JAX finds cuda:0, cuda:1, found 3$"):
        number_of(3, ["cuda:0", "cuda:1"])
    with pytest.raises(DeviceError, match=r"at most 1, .* cpu:0 \(.*host_platform_device_count=4 .*, found 4$"):
        number_of(4, ["cpu:0"])


@pytest.mark.parametrize("said", ["", "warning", '{"cpu": 0}', "[]", "[1]"])
def test_an_answer_that_names_no_devices_is_one_line(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = subprocess.CompletedProcess([], 0, stdout=said, stderr="")
    monkeypatch.setattr(devices.subprocess, "run", lambda *_, **__: told)
    with pytest.raises(devices.DeviceError, match="the names of what JAX computes on"):
        devices.find_jax_devices.__wrapped__()


def test_lines_before_the_answer_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    told = subprocess.CompletedProcess([], 0, stdout='a plug-in says hello\n["cpu:0"]', stderr="")
    monkeypatch.setattr(devices.subprocess, "run", lambda *_, **__: told)
    assert devices.find_jax_devices.__wrapped__() == ["cpu:0"]
