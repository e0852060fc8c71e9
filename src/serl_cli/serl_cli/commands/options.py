# SPDX-License-Identifier: Apache-2.0
"""Options and completions that several commands share."""

import math
from pathlib import Path
from typing import Annotated, Literal

import typer
from serl_config.resources import listing
from serl_launch.runs import run_names, runs_root

from serl_cli.ranges import LARGEST_COUNT
from serl_launch import domain


def complete_task(incomplete: str) -> list[str]:
    """Names of tasks."""
    from serl_tasks import task_names

    return [name for name in task_names() if name.startswith(incomplete)]


def complete_robot(incomplete: str) -> list[str]:
    """Names of robots."""
    return _complete_config("robots", incomplete)


def complete_learning(incomplete: str) -> list[str]:
    """Names of learning configurations."""
    return _complete_config("learning", incomplete)


def complete_person(incomplete: str) -> list[str]:
    """Names of scripted persons."""
    return _complete_config("people", incomplete)


def complete_run(incomplete: str) -> list[str]:
    """Names of runs, newest first."""
    return [name for name in run_names(runs_root()) if name.startswith(incomplete)]


def complete_graph(incomplete: str) -> list[tuple[str, str]]:
    """Names of the graphs that run now."""
    graphs = domain.running_graphs()
    return [(graph.name, f"domain {graph.domain_id}") for graph in graphs if graph.name.startswith(incomplete)]


def complete_benchmark(incomplete: str) -> list[tuple[str, str]]:
    """Keys of benchmarks."""
    from serl_bench.registry import BENCHMARKS

    return [(each.key, each.what) for each in BENCHMARKS if each.key.startswith(incomplete)]


def complete_launch_file(incomplete: str) -> list[str]:
    """Launch files that the workspace installs."""
    return [f"{name}.launch.xml" for name in listing("launch", ".launch.xml") if name.startswith(incomplete)]


def _complete_config(folder: str, incomplete: str) -> list[str]:
    return [name for name in listing(f"config/{folder}", ".yaml") if name.startswith(incomplete)]


def _finite(value: float) -> float:
    """Refuse infinity and NaN, which are above any minimum."""
    if not math.isfinite(value):
        raise typer.BadParameter(f"expected a finite number, found {value}")
    return value


TaskArgument = Annotated[str, typer.Argument(help="Name of the task.", autocompletion=complete_task)]
RobotOption = Annotated[
    str,
    typer.Option(
        metavar="ROBOT",
        help="Robot instead of the task's own: takes the task TASK_ROBOT.",
        autocompletion=complete_robot,
    ),
]
RunArgument = Annotated[str, typer.Argument(help="Name of a run, or its folder.", autocompletion=complete_run)]
BackendOption = Annotated[Literal["jax", "torch"], typer.Option(help="What computes.")]
SeedOption = Annotated[int, typer.Option(help="Seed of everything random.", min=0, max=LARGEST_COUNT)]
HardwareOption = Annotated[
    Literal["simulated", "emulated", "real"],
    typer.Option(
        help="The arm: a simulated one, or a driver with an emulated or a real arm behind it, in real time.",
    ),
]

ViewerOption = Annotated[bool, typer.Option("--viewer", help="Open MuJoCo's window.")]
RtfOption = Annotated[
    float,
    typer.Option(
        "--rtf", min=0.0, callback=_finite, help="Real-time factor; 0: lockstep, as fast as the machine allows."
    ),
]
TeleopOption = Annotated[
    Literal["scripted", "spacemouse", "gamepad", "joy", "twist", "leader", "joint_leader", "none"],
    typer.Option(help="Who leads: the scripted person, or you with a device; see [bold]./serl teleop[/bold]."),
]
MappingOption = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        help="Mapping file of an imported policy: which cameras and values it gets, what its actions are.",
    ),
]
GraphOption = Annotated[
    str,
    typer.Option(
        "--graph",
        help="Name of the running graph to look at. Not needed when there is only one, or when ROS_DOMAIN_ID is set.",
        autocompletion=complete_graph,
    ),
]
