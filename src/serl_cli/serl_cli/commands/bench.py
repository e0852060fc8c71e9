# SPDX-License-Identifier: Apache-2.0
"""``serl bench`` measures what the documentation promises, and how well tasks are learned; ``serl experiment`` why."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from serl_launch.errors import UsageError
from typer.core import TyperGroup

from serl_cli.commands.help import documented
from serl_cli.commands.options import complete_benchmark, complete_person
from serl_cli.ranges import LARGEST_COUNT

_KEYS = "keys"
_Redo = Annotated[bool, typer.Option("--redo", help="Run again what failed, or was made by other code.")]
_Seeds = Annotated[
    int | None, typer.Option(min=1, max=1000, help="Runs of each; they are 100, 101, ... Default: 3, quick 1.")
]
_ReportOnly = Annotated[bool, typer.Option("--report-only", help="Run nothing; write the report of what there is.")]


class _KeysByDefault(TyperGroup):
    """Takes what is no command of its own for arguments of ``keys``: ``bench estop_ms`` is ``bench keys estop_ms``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # the type of `ctx` is private to typer
        """Name the command where only its arguments are given."""
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = [_KEYS, *args]
        return super().parse_args(ctx, args)


bench = typer.Typer(cls=_KeysByDefault, rich_markup_mode="rich")


def bench_overview() -> None:
    """Measure this machine, or how well tasks are learned. Keys alone are enough: [bold]./serl bench estop_ms[/bold].

    Examples:
        ./serl bench
        ./serl bench --list
        ./serl bench sac_ref_updates_per_s
        ./serl bench suite --quick
    """


def _measure(
    keys: Annotated[
        list[str] | None,
        typer.Argument(
            help="What to measure; without any, everything that --list marks.", autocompletion=complete_benchmark
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write a flat JSON map key → number.", metavar="FILE")
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write everything that was found, with the machine.", metavar="FILE")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of what depends on chance.")] = 5,
    list_only: Annotated[bool, typer.Option("--list", help="List what can be measured, with the goals.")] = False,
) -> None:
    """Measure this machine and compare with the goals. The exit status is 1 when a goal is missed.

    Examples:
        ./serl bench --list
        ./serl bench sac_ref_updates_per_s
        ./serl bench --json numbers.json
    """
    from serl_bench import runner

    if list_only:
        runner.list_benchmarks(keys or [])
        return
    if not runner.run_benchmarks(keys or [], seeds, json_file, report):
        raise typer.Exit(1)


def _suite(
    tasks: Annotated[
        str, typer.Option(metavar="TASK,...", help="Tasks to learn. Default: all of the suite, and pick_cube.")
    ] = "",
    settings: Annotated[
        str,
        typer.Option(
            metavar="SETTING,...",
            help="What to learn them with: LEARNING or LEARNING-DEMONSTRATIONS, either with +interventions, or +PERSON "
            "for one of config/people, where LEARNING is a file of config/learning, or rlpd for the task's own; "
            "hg-dagger, which is bc+interventions; teacher, the scripted expert. Default: rlpd with and without "
            "interventions, bc-20, bc-100, hg-dagger and teacher.",
        ),
    ] = "",
    seeds: _Seeds = None,
    max_steps: Annotated[
        int | None,
        typer.Option(min=1, help="Online env steps after which a run gives up. Default: 15000, quick 4000."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="rlpd, bc-20 and teacher on few tasks: below ten minutes.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FOLDER", help="Default: suite-full or suite-quick of runs.")
    ] = None,
    redo: _Redo = False,
    report_only: _ReportOnly = False,
) -> None:
    """Train tasks with several settings and seeds through the whole graph, and compare: one table and one figure.

    Each finished training is a file of its own in FOLDER/cells. Whatever ends the command, the same command goes on
    with what is missing; what was planned or set differently then is run again. One that fails is a row and a reason.

    Examples:
        ./serl bench suite --quick
        ./serl bench suite --tasks pick_cube --settings rlpd,bc-20,drqv2 --seeds 5
        ./serl bench suite --report-only --out runs/suite-full
    """
    from serl_cli.work import judge_suite

    if report_only:
        _refuse_in_report({"--tasks": tasks, "--settings": settings, "--seeds": seeds, "--max-steps": max_steps}, redo)
    judge_suite.judge(
        tasks=_names(tasks),
        settings=_names(settings),
        seeds=seeds or 0,
        max_env_steps=max_steps or 0,
        quick=quick,
        folder=out,
        redo=redo,
        report_only=report_only,
    )


def _metaworld(
    tasks: Annotated[
        str, typer.Option(metavar="TASK,...", help="Tasks to learn, as assembly,hammer. Default: all fifty.")
    ] = "",
    seeds: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Runs of each; they are 100, 101, ... Default: 1.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FOLDER", help="Default: suite-metaworld of runs.")
    ] = None,
    redo: _Redo = False,
    report_only: _ReportOnly = False,
) -> None:
    """Train Meta-World's tasks through the whole graph, next to cloning of the same 20 demonstrations.

    Needs [bold]./serl setup gym metaworld[/bold]. Whatever ends the command, the same command goes on with what is
    missing.

    Examples:
        ./serl bench metaworld --tasks assembly,hammer
        ./serl bench metaworld --seeds 3
    """
    from serl_bench.suite.plan import METAWORLD, metaworld_plan
    from serl_launch.runs import runs_root
    from serl_launch.worlds import gym_python

    from serl_cli.work import judge_suite

    plan = None
    if report_only:
        _refuse_in_report({"--tasks": tasks, "--seeds": seeds}, redo)
    else:
        gym_python(METAWORLD.rstrip("-"))
        plan = metaworld_plan(_names(tasks), seeds or 1)
    judge_suite.follow(out or runs_root() / "suite-metaworld", plan, redo=redo)


experiment = typer.Typer(rich_markup_mode="rich")


def experiment_overview() -> None:
    """Find out by trainings what something is worth.

    Examples:
        ./serl experiment interventions --quick
    """


def _interventions(
    tasks: Annotated[str, typer.Option(metavar="TASK,...", help="Tasks to learn. Default: pick_cube.")] = "",
    demos: Annotated[
        str, typer.Option(metavar="N,...", help="Numbers of demonstrations. Default: 0,1,5,20; quick 0,1.")
    ] = "",
    person: Annotated[
        str,
        typer.Option(
            help="Who helps, and demonstrates to those that are helped: a file of config/people. Default: fresh.",
            autocompletion=complete_person,
        ),
    ] = "",
    seeds: _Seeds = None,
    max_steps: Annotated[
        int | None,
        typer.Option(min=1, help="Online env steps after which a run gives up. Default: 6000, quick 300."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="See that it works; its numbers say nothing.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FOLDER", help="Default: interventions or interventions-quick of runs."),
    ] = None,
    redo: _Redo = False,
    report_only: _ReportOnly = False,
) -> None:
    """Train with few and many demonstrations, with and without a person who helps, and compare: when is it worth it?

    Success without help, what the person led, and what succeeds untouched, over env steps; a table and a figure. Each
    finished training is a file of its own in FOLDER/cells: whatever ends the command, the same command goes on.

    Examples:
        ./serl experiment interventions --quick
        ./serl experiment interventions --tasks pick_cube,insert_peg --person tired
    """
    from serl_bench.suite.help_report import write_help_report
    from serl_bench.suite.plan import interventions_plan
    from serl_launch.runs import runs_root

    from serl_cli.training_plan import person_settings
    from serl_cli.work import judge_suite

    plan = None
    if report_only:
        options = {"--tasks": tasks, "--demos": demos, "--person": person, "--seeds": seeds, "--max-steps": max_steps}
        _refuse_in_report(options, redo)
    else:
        if person:
            person_settings(person)
        plan = interventions_plan(
            _names(tasks),
            _counts("--demos", demos),
            person=person or "fresh",
            seeds=seeds or 0,
            max_env_steps=max_steps or 0,
            quick=quick,
        )
    folder = out or runs_root() / f"interventions{'-quick' if quick else ''}"
    judge_suite.follow(folder, plan, redo=redo, report=write_help_report)


def _counts(option: str, text: str) -> tuple[int, ...]:
    """Whole numbers. Raises UsageError for what is none."""
    names = _names(text)
    wrong = [name for name in names if not name.isdecimal() or int(name) > LARGEST_COUNT]
    if wrong:
        raise UsageError(f"{option}: expected whole numbers, as 0,1,5,20, found {wrong[0]!r}")
    return tuple(int(name) for name in names)


def _refuse_in_report(planned: Mapping[str, object], redo: bool) -> None:
    """Raise UsageError for options of what is to be run, where nothing is."""
    given = ", ".join(name for name, value in {**planned, "--redo": redo}.items() if value)
    if given:
        raise UsageError(f"--report-only runs nothing and reports all that the folder has: leave out {given}")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


bench.command(_KEYS, **documented(_measure))(_measure)
bench.command("suite", **documented(_suite))(_suite)
bench.command("metaworld", **documented(_metaworld))(_metaworld)
experiment.command("interventions", **documented(_interventions))(_interventions)


def sweep(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="YAML file: tasks, seeds, parameters; see config/sweeps.")
    ],
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=0, max=1000, help="Trials at once, at most; 0: one for each two cores.")
    ] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FOLDER", help="Default: sweeps/NAME below the runs.")
    ] = None,
    ray: Annotated[
        str,
        typer.Option(
            "--ray",
            metavar="ADDRESS",
            help="Run the trials by Ray (./serl setup ray): HOST:PORT of a cluster's head, auto for the cluster that "
            "this machine belongs to, or local.",
        ),
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the trials, and what has become of them.")] = False,
    redo: Annotated[bool, typer.Option("--redo", help="Run again what failed.")] = False,
    report_only: _ReportOnly = False,
) -> None:
    """Train with many settings, seeds and tasks, and compare: one table and one figure.

    Each trial is a ./serl train in a ROS domain and a folder of its own. Whatever ends the command, the same command
    goes on: finished trials are kept, begun ones are resumed. One that fails is a row and a reason.

    Examples:
        ./serl sweep config/sweeps/demonstrations.yaml --dry-run
        ./serl sweep config/sweeps/demonstrations.yaml --jobs 2
        ./serl sweep config/sweeps/demonstrations.yaml --report-only
    """
    from serl_cli.sweep import command

    if redo and (dry_run or report_only):
        raise UsageError("--redo runs trials: leave out --dry-run and --report-only")
    command.sweep(file, jobs=jobs, folder=out, ray=ray, dry_run=dry_run, redo=redo, report_only=report_only)
