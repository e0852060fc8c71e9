# SPDX-License-Identifier: Apache-2.0
"""The benchmark framework: selection, verdicts, files. The benchmarks themselves are not run here."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import cast

import pytest
from serl_bench.benchmark import Bench, Benchmark, Measurement
from serl_bench.graph.encoders import STRANGER, steps_to_goal, transfer
from serl_bench.graph.turns import printed_json, rate_without_resets
from serl_bench.registry import BENCHMARKS, select
from serl_launch.errors import CommandError, UsageError

from serl_bench import runner
from serl_launch import system


def fast(bench: Bench) -> Measurement:
    return Measurement(10.0 + len(bench.seeds), "none", {"seeds": list(bench.seeds)})


def slow(bench: Bench) -> Measurement:
    return Measurement(5.0, "none")


def broken(bench: Bench) -> Measurement:
    raise CommandError("the machine is on fire", details=["line 1"])


def no_number(bench: Bench) -> Measurement:
    return Measurement(float("nan"), "nothing came")


def _benchmark(key: str, function: str, goal: float = 10.0, *, by_default: bool = True) -> Benchmark:
    return Benchmark(key, f"what {key} is", "steps/s", "more", goal, f"{__name__}:{function}", by_default)


SOME = [_benchmark("fast", "fast"), _benchmark("slow", "slow"), _benchmark("late", "fast", by_default=False)]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Benchmarks are named by module and function; pytest does not put a test file among the modules."""
    monkeypatch.setitem(sys.modules, __name__, cast(ModuleType, SimpleNamespace(**globals())))


def test_every_registered_benchmark_has_a_function_a_goal_and_an_own_key() -> None:
    for each in BENCHMARKS:
        module, _, name = each.function.partition(":")
        assert callable(getattr(importlib.import_module(module), name)), each.key
        assert each.goal >= 0
        assert each.what
    assert len({each.key for each in BENCHMARKS}) == len(BENCHMARKS)


def test_without_keys_those_run_that_do_by_default() -> None:
    assert [each.key for each in select([], SOME)] == ["fast", "slow"]
    assert [each.key for each in select(["late", "fast"], SOME)] == ["fast", "late"]


def test_an_unknown_key_is_a_usage_error_that_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"no benchmark nonsense.*fast, slow, late"):
        select(["fast", "nonsense"], SOME)


@pytest.mark.parametrize(
    ("better", "value", "reached"), [("more", 10, True), ("more", 9, False), ("less", 10, True), ("less", 11, False)]
)
def test_a_goal_is_reached_from_its_better_side(better: str, value: float, reached: bool) -> None:
    benchmark = Benchmark("k", "w", "u", better, 10, "m:f")  # type: ignore[arg-type]
    assert benchmark.reached(value) is reached
    assert not benchmark.reached(float("nan"))


def test_the_json_file_is_a_flat_map_and_the_report_has_the_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers, report = tmp_path / "numbers.json", tmp_path / "report.json"
    assert not runner.run_benchmarks([], 3, numbers, report, SOME)
    assert json.loads(numbers.read_text()) == {"fast": 13.0, "slow": 5.0}
    full = json.loads(report.read_text())
    assert full["system"]["machine"] == system.machine()
    assert full["benchmarks"]["fast"]["details"] == {"seeds": [0, 1, 2]}
    assert full["benchmarks"]["slow"]["reached"] is False
    table = capsys.readouterr().out
    assert "missed" in table
    assert "ok" in table


def test_all_goals_reached_is_success() -> None:
    assert runner.run_benchmarks(["fast"], 3, None, None, SOME)


def test_a_benchmark_that_fails_keeps_the_rows_before_it(tmp_path: Path) -> None:
    numbers = tmp_path / "numbers.json"
    with pytest.raises(CommandError, match="broken: the machine is on fire") as raised:
        runner.run_benchmarks([], 1, numbers, None, [SOME[0], _benchmark("broken", "broken"), SOME[1]])
    assert raised.value.details == ("line 1",)
    assert json.loads(numbers.read_text()) == {"fast": 11.0}


def test_what_is_not_a_number_is_an_error_and_never_in_the_file(tmp_path: Path) -> None:
    numbers = tmp_path / "numbers.json"
    with pytest.raises(CommandError, match="measured no number: nothing came"):
        runner.run_benchmarks([], 1, numbers, None, [_benchmark("nan", "no_number")])
    assert not numbers.exists()


@pytest.mark.parametrize(("successes", "resets", "rate"), [(190, 0, 95.0), (200, 0, 100.0), (199, 1, 0.0)])
def test_episodes_by_turns_count_only_where_nobody_reset(successes: int, resets: int, rate: float) -> None:
    assert rate_without_resets({"episodes": 200, "successes": successes, "resets": resets}) == rate


def test_listing_shows_every_goal(capsys: pytest.CaptureFixture[str]) -> None:
    runner.list_benchmarks([])
    shown = capsys.readouterr().out
    assert all(each.key in shown for each in BENCHMARKS)


def test_the_machine_is_described() -> None:
    description = system.describe()
    assert "core" in description["machine"]
    assert description["numpy"] != "missing"


def test_an_encoder_that_never_gets_there_is_infinitely_slow() -> None:
    never, late = {"env_steps_to_goal": None}, {"env_steps_to_goal": 3000}
    assert transfer({"small": steps_to_goal(late), STRANGER: steps_to_goal(never)}) == float("inf")
    assert transfer({"small": 2000.0, "small, random": 3000.0, STRANGER: 2500.0}) == 1.25
    assert transfer({"small": steps_to_goal(never), STRANGER: steps_to_goal(late)}) == 1.0
    with pytest.raises(CommandError, match="with none of the encoders small, efficientnet_lite0"):
        transfer({"small": steps_to_goal(never), STRANGER: steps_to_goal(never)})


def test_what_a_command_prints_as_json_is_found_among_what_others_say() -> None:
    text = "{odd} starting\n" + json.dumps({"run": "pair-1", "tasks": {"a": 1}}, indent=2) + "\n[bridge] {done}\n"
    assert printed_json(text) == {"run": "pair-1", "tasks": {"a": 1}}
    with pytest.raises(ValueError, match="substring"):
        printed_json("serl: error: no run\n")


def test_without_a_gpu_its_table_ends_with_a_line_that_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from serl_rl.benchmarks import gpu

    monkeypatch.setattr(gpu, "card", lambda: None)
    with pytest.raises(CommandError, match=r"^backends_gpu: expected a GPU that PyTorch can use, found none; [^\n]*$"):
        runner.run_benchmarks(["backends_gpu"], 1, None, None)


def test_the_table_of_a_gpu_has_each_row_and_the_worst_case_is_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    from serl_bench.library.gpu import backends_gpu
    from serl_rl.benchmarks import gpu

    def table(card: str) -> list[gpu.Row]:
        rates = {"jax": 10.0, gpu.WRITTEN: 5.0, "torch, all": 20.0}
        return [
            gpu.Row(case, what, card, rate * (0.7 if case == "cached" and what != "jax" else 1.0), None)
            for case in gpu.CASES
            for what, rate in rates.items()
        ]

    said: list[str] = []
    monkeypatch.setattr(gpu, "card", lambda: "Some Card")
    monkeypatch.setattr(gpu, "table", table)
    found = backends_gpu(Bench((0,), Path(), said.append))
    assert found.value == pytest.approx(1.4)
    assert len(found.details["rows"]) == 12
    assert said[0] == "  the peak of Some Card is not in the table, so no share of it is told"
    assert said[3] == "  cached, torch, all: 14 updates/s on Some Card"


@pytest.mark.parametrize(
    ("card", "wide", "narrow"),
    [
        ("NVIDIA H100 80GB HBM3", 66.9e12, 989e12),
        ("NVIDIA H100 PCIe", 51.2e12, 756e12),
        ("NVIDIA A100-SXM4-80GB", 19.5e12, 312e12),
        ("NVIDIA A100 80GB PCIe", 19.5e12, 312e12),
        ("NVIDIA GeForce RTX 3090", 35.6e12, 71e12),
        ("NVIDIA GeForce RTX 3090 Ti", None, None),
        ("NVIDIA H100 NVL", None, None),
        ("NVIDIA L40S", None, None),
    ],
)
def test_a_card_has_its_own_peak(card: str, wide: float | None, narrow: float | None) -> None:
    from serl_rl.benchmarks import gpu

    assert (gpu.peak(card, "float32"), gpu.peak(card, "bfloat16")) == (wide, narrow)
