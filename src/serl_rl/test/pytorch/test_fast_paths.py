# SPDX-License-Identifier: Apache-2.0
"""What makes PyTorch faster on GPUs changes nothing of what is learned, but for rounding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from serl_rl.backends import create_agent
from serl_rl.config import EncoderConfig, LearningConfig, SACConfig, TorchConfig, VisionConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.replay.buffer import empty_batch
from serl_rl.spec import DataError, TransitionSpec

torch = pytest.importorskip("torch", reason="./serl setup torch")

PICTURES = TransitionSpec({"front": ((16, 24, 3), "uint8"), "state": ((4,), "float32")}, 3)
VECTORS = TransitionSpec({"state": ((4,), "float32")}, 3)
SMALL = Encoder.random("small", 5)
CPU = TorchConfig(device="cpu")


def agent_of(spec: TransitionSpec, computing: TorchConfig, *, frozen: bool = False) -> Any:
    encoder = EncoderConfig(weights="random", frozen=frozen, cached=False, shift=2)
    config = LearningConfig(
        backend="torch",
        sac=SACConfig(hidden_sizes=(16, 8), critics=3, critic_subset=2),
        vision=VisionConfig(encoder=encoder, embeddings=2, width=5),
        torch=computing,
    )
    return create_agent(3, spec, config, SMALL if spec is PICTURES else None)


def drawn_batch(spec: TransitionSpec, number: int, shape: tuple[int, int, int] = (1, 2, 12)) -> dict[str, Any]:
    rng = np.random.default_rng(number)
    batch = empty_batch(spec, shape)
    for entry in batch.values():
        for rows in entry.values() if isinstance(entry, dict) else [entry]:
            low, high = (0, 256) if rows.dtype == np.uint8 else (-1.0, 1.0)
            rows[...] = rng.uniform(low, high, rows.shape)
    return batch


def updated(agent: Any, spec: TransitionSpec, count: int) -> tuple[Any, list[dict[str, float]]]:
    told = []
    for number in range(count):
        agent, info = agent.update(drawn_batch(spec, number))
        told.append({name: float(value) for name, value in info.items()})
    return agent, told


def largest_difference(first: Any, second: Any, without: str = "nothing") -> float:
    other = second.arrays()
    of_all = {name: np.abs(array.astype(float) - other[name]).max() for name, array in first.arrays().items()}
    return max(float(difference) for name, difference in of_all.items() if without not in name)


@pytest.mark.parametrize("kind", ["small", "resnet10", "mobilenet", "efficientnet_lite0_4"])
def test_maps_have_the_same_values_however_they_lie_in_memory(kind, monkeypatch):
    from serl_rl.torch.computing.modes import computing_as
    from serl_rl.torch.encoders import networks

    params = networks.encoder_params(Encoder.random(kind, 5))
    pictures = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 32, 40, 3), np.uint8))
    lying, convolve = [], networks.F.conv2d

    def noting(x, kernel, *arguments, **options):
        lying.append(kernel.is_contiguous(memory_format=torch.channels_last))
        if not lying[1:]:
            lying.append(x.is_contiguous(memory_format=torch.channels_last))
        return convolve(x, kernel, *arguments, **options)

    monkeypatch.setattr(networks.F, "conv2d", noting)
    maps = {}
    for last in (True, False):
        lying.clear()
        with computing_as(replace(CPU, channels_last=last), torch.device("cpu")):
            maps[last] = networks.encode(kind, params, pictures)
        assert lying[0] is last, "the kernel of the first convolution"
        assert lying[1] is last, "the pictures"
    scale = float(maps[True].abs().max())
    torch.testing.assert_close(maps[True], maps[False], rtol=1e-5, atol=1e-5 * scale)
    torch.testing.assert_close(networks.encode(kind, params, pictures), maps[True], rtol=0.0, atol=0.0)


@pytest.mark.parametrize("frozen", [False, True])
def test_an_agent_learns_the_same_however_its_maps_lie_in_memory(frozen):
    (first, one), (second, other) = (
        updated(agent_of(PICTURES, replace(CPU, channels_last=last), frozen=frozen), PICTURES, 1)
        for last in (True, False)
    )
    assert largest_difference(first, second) < 1e-5
    for told, also in zip(one, other, strict=True):
        assert told == pytest.approx(also, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("kind", ["vectors", "trained encoder", "frozen encoder"])
def test_half_as_many_bits_learn_nearly_the_same(kind):
    spec = VECTORS if kind == "vectors" else PICTURES
    (wide, one), (narrow, other) = (
        updated(agent_of(spec, replace(CPU, precision=precision), frozen=kind == "frozen encoder"), spec, 10)
        for precision in ("float32", "bfloat16")
    )
    assert all(np.isfinite(value) for told in other for value in told.values())
    assert all(array.dtype == wide.arrays()[name].dtype for name, array in narrow.arrays().items())
    assert 1e-6 < largest_difference(wide, narrow, "optimizer") < 0.1
    for count, (told, also) in enumerate(zip(one, other, strict=True)):
        grown = 0.02 if count < 2 else 0.25  # what bits are left out at first, and what ten updates make of it
        assert also["critic_loss"] == pytest.approx(told["critic_loss"], rel=grown, abs=0.02)
    assert other[0]["critic_loss"] != one[0]["critic_loss"], "computed in bfloat16"


def test_graphs_are_refused_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for computing in (TorchConfig(cuda_graphs=True), replace(CPU, cuda_graphs=True)):
        with pytest.raises(DataError, match=r"^torch.cuda_graphs: expected a GPU, found no GPU .*; set it to false$"):
            agent_of(VECTORS, computing)


@pytest.mark.parametrize("spec", [VECTORS, PICTURES], ids=["vectors", "trained encoder"])
def test_a_recorded_step_is_the_one_that_is_taken_as_it_is_written(spec, monkeypatch):
    """Recording by a stand-in without a GPU: a replay does the same with the same tensors, and leaves the numbers."""
    from serl_rl.torch.computing import graphs

    recordings = []

    def record(rehearse, call):
        rehearse()
        numbers = torch.empty(())  # as much as is known: nothing has been computed
        recordings.append(numbers)

        def replay():
            found = call()
            numbers.resize_(found.shape).copy_(found)

        return numbers, replay

    monkeypatch.setattr(graphs, "record", record)
    recorded = [agent_of(spec, CPU).replace(computing=replace(CPU, cuda_graphs=True)) for _ in range(2)]
    expected, told = updated(agent_of(spec, CPU), spec, 3)
    for agent, (found, also) in [(agent, updated(agent, spec, 3)) for agent in recorded]:
        assert found is agent
        assert largest_difference(found, expected) < 1e-6, "each agent has its own tensors"
        for one, other in zip(told, also, strict=True):
            assert one == pytest.approx(other, rel=1e-5, abs=1e-6)
    assert len(recordings) == 4, "a critic's and an actor's step of two agents, each recorded once"


def test_the_next_minibatch_is_on_its_way_before_one_is_learned_from():
    from serl_rl.torch.computing.prefetch import one_ahead

    done: list[str] = []

    def start(number: int) -> int:
        done.append(f"start {number}")
        return number

    def finish(number: int) -> str:
        done.append(f"finish {number}")
        return f"part {number}"

    for part in one_ahead(range(3), start, finish):
        done.append(part)
    ahead = ["start 0", "start 1", "finish 0", "part 0", "start 2", "finish 1", "part 1", "finish 2", "part 2"]
    assert done == ahead
    assert not list(one_ahead([], start, finish))


@pytest.mark.parametrize("prefetch", [False, True])
def test_minibatches_come_in_order_and_whole(prefetch):
    from serl_rl.torch.computing.prefetch import minibatches

    batch = drawn_batch(PICTURES, 0, (2, 3, 4))
    parts = list(minibatches(batch, replace(CPU, prefetch=prefetch), torch.device("cpu")))
    assert len(parts) == 6
    for number, part in enumerate(parts):
        at = divmod(number, 3)
        np.testing.assert_array_equal(part["reward"], batch["reward"][at])
        np.testing.assert_array_equal(part["observation"]["front"], batch["observation"]["front"][at])


def test_operations_of_a_step_are_counted_with_those_of_its_gradients():
    from serl_rl.torch.computing.card import counted_flops

    weights = torch.zeros((5, 7), requires_grad=True)
    assert counted_flops(lambda: torch.autograd.grad((torch.ones(3, 5) @ weights).sum(), weights)) == 2 * 2 * 3 * 5 * 7


def test_what_a_bench_of_a_gpu_measures_is_measured_on_a_cpu_too():
    from serl_rl.benchmarks import gpu

    spec, config, encoder, shape = gpu.settings("cached")
    config = replace(config, backend="torch", torch=CPU)
    # Both cameras' heads, the actor and two critics, with their gradients; actor's input is 8 + 2 * 64, action 4.
    flops = gpu.flops_per_update(spec, config, encoder, (*shape[:2], 2))
    assert flops > 2 * 6 * (136 * 256 + 256 * 256 + 256 * 8)
    assert gpu.updates_per_s(spec, config, encoder, (1, 1, 2), 0.05) > 0
