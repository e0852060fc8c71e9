# SPDX-License-Identifier: Apache-2.0
"""``serl train``: one command from nothing to a trained policy."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from serl_launch.errors import UsageError

from serl_cli.commands.options import (
    HardwareOption,
    MappingOption,
    RobotOption,
    RtfOption,
    SeedOption,
    TaskArgument,
    TeleopOption,
    ViewerOption,
    complete_learning,
    complete_person,
    complete_run,
    complete_task,
)
from serl_cli.ranges import LARGEST_COUNT, MOST_ACTORS, MOST_CONFIRMATIONS

_GOAL, _START = "When it ends", "How it starts"


def train(
    context: typer.Context,
    task: TaskArgument = "insert_peg_vision",
    robot: RobotOption = "",
    name: Annotated[
        str, typer.Option(help="Name of the run; its folder is runs/NAME. Default: the task and the time.")
    ] = "",
    seed: SeedOption = 0,
    demos: Annotated[
        int,
        typer.Option(
            min=0, max=LARGEST_COUNT, help="Demonstrations that the person gives first.", rich_help_panel=_START
        ),
    ] = 20,
    demo_file: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Demonstrations recorded by [bold]./serl record[/bold], instead of new ones.",
            rich_help_panel=_START,
        ),
    ] = None,
    max_steps: Annotated[
        int,
        typer.Option(min=1, max=LARGEST_COUNT, help="Online env steps after which to give up.", rich_help_panel=_GOAL),
    ] = 10_000,
    goal: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Success rate of an evaluation that ends it.", rich_help_panel=_GOAL),
    ] = 0.95,
    confirm: Annotated[
        int,
        typer.Option(
            min=0,
            max=MOST_CONFIRMATIONS,
            help="Further evaluations, on other starts, that have to reach it as well.",
            rich_help_panel=_GOAL,
        ),
    ] = 1,
    eval_every: Annotated[
        int, typer.Option(min=1, max=LARGEST_COUNT, help="Env steps between evaluations.", rich_help_panel=_GOAL)
    ] = 250,
    eval_episodes: Annotated[
        int, typer.Option(min=1, max=LARGEST_COUNT, help="Episodes of an evaluation.", rich_help_panel=_GOAL)
    ] = 50,
    partner: Annotated[
        str,
        typer.Option(
            "--with",
            metavar="TASK",
            help="Task that undoes this one: both are learned by turns, and nobody resets the world.",
            autocompletion=complete_task,
        ),
    ] = "",
    interventions: Annotated[bool, typer.Option(help="The scripted person takes over when the policy drifts.")] = False,
    person: Annotated[
        str,
        typer.Option(
            help="What is human about the scripted person: a file of config/people.", autocompletion=complete_person
        ),
    ] = "fresh",
    teleop: TeleopOption = "scripted",
    rtf: RtfOption = 0.0,
    resume: Annotated[
        str,
        typer.Option(
            metavar="RUN",
            help="Continue this run; only --max-steps, --goal, --confirm, --eval-*, --rtf, --teleop, --viewer, "
            "--actors and --wandb may change.",
            autocompletion=complete_run,
            rich_help_panel=_START,
        ),
    ] = "",
    learning: Annotated[
        str,
        typer.Option(
            help="Learning configuration, a file of config/learning; act: an ACT policy of the demonstrations alone. "
            "Default: the task's own.",
            autocompletion=complete_learning,
            rich_help_panel=_START,
        ),
    ] = "",
    viewer: ViewerOption = False,
    console: Annotated[
        bool, typer.Option("--console", help="Serve a page in the browser to watch it, lead the arm and stop it.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change one value of the learning configuration; may be given several times.",
            rich_help_panel=_START,
        ),
    ] = None,
    reward: Annotated[
        Literal["truth", "classifier", "human"],
        typer.Option(
            help="Who judges: the simulator, a classifier of pictures, a person with [bold]./serl reward label[/bold].",
            rich_help_panel=_START,
        ),
    ] = "truth",
    classifier: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Classifier trained by [bold]./serl reward train[/bold], for --reward classifier.",
            rich_help_panel=_START,
        ),
    ] = None,
    from_policy: Annotated[
        str,
        typer.Option(
            metavar="KIND:PATH",
            help="Improve this imported policy; serl:PATH is one of ours. How: --set sac.improve.",
            rich_help_panel=_START,
        ),
    ] = "",
    init_from: Annotated[
        str,
        typer.Option(
            metavar="KIND:PATH",
            help="Go on with these weights of actor and critics: drqv2:PATH with --learning drqv2, flax:PATH and "
            "lerobot_sac:PATH with sac.",
            rich_help_panel=_START,
        ),
    ] = "",
    prior: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RUN[:WEIGHT]",
            help="Draw from the data of this earlier run of the task, too, beside demonstrations, which have weight 1; "
            "may be given several times.",
            autocompletion=complete_run,
            rich_help_panel=_START,
        ),
    ] = None,
    mapping: MappingOption = None,
    hardware: HardwareOption = "simulated",
    actors: Annotated[
        int,
        typer.Option(
            min=1,
            max=MOST_ACTORS,
            help="Simulated arms that collect for one learner at once, each in a world of its own.",
        ),
    ] = 1,
    wandb: Annotated[
        str,
        typer.Option(
            metavar="PROJECT",
            help="Send metrics, configuration, curve, film and checkpoints to this project of Weights & Biases, too "
            "([bold]./serl setup wandb[/bold]).",
        ),
    ] = "",
    report: Annotated[bool, typer.Option(help="Draw the learning curve and film the policy at the end.")] = True,
) -> None:
    """Train a policy until it succeeds, through the whole ROS graph.

    Ends by itself when an evaluation reaches the goal. Everything is in runs/NAME then: configuration, metrics (CSV
    and TensorBoard), learning curve, a video of the policy, checkpoint, logs. The exit status is 1 when the goal was
    not reached.

    Examples:
        ./serl train
        ./serl train pick_cube --seed 3 --demos 5
        ./serl train pick_cube --robot so101
        ./serl train --resume insert_peg_vision-20260101-120000
        ./serl train pick_cube_vision --demos 1 --interventions
        ./serl train pick_cube --interventions --person tired
        ./serl train pick_cube_vision --console --rtf 1
        ./serl train pick_cube --teleop spacemouse --rtf 1 --demos 5
        ./serl train pick_cube --from-policy serl:runs/few_shown
        ./serl train pick_cube_vision --learning act --demos 30
        ./serl train pick_cube --learning drqv2 --init-from drqv2:snapshots/800000_snapshot.pt
        ./serl train pick_cube --prior runs/monday --prior runs/tuesday:0.5
        ./serl train relocate_forward --with relocate_backward
        ./serl train pick_cube --robot so101 --hardware emulated
        ./serl train pick_cube --actors 4 --rtf 1
    """
    from serl_cli.names import on_robot
    from serl_cli.prior_runs import named_priors
    from serl_cli.training_plan import TrainingPlan, check_actors, check_person, is_act
    from serl_cli.work import train_policy
    from serl_cli.work.act import trained_run

    if resume and robot:
        raise UsageError("--robot and --resume exclude each other: a continued run keeps its task")
    plan = TrainingPlan(
        task=on_robot(task, robot) if robot else task,
        seed=seed,
        demos=demos,
        demo_file=str(demo_file.absolute()) if demo_file else "",
        max_steps=max_steps,
        eval_every=eval_every,
        eval_episodes=eval_episodes,
        goal=goal,
        confirm=confirm,
        interventions=interventions,
        person=person,
        teleop=teleop,
        hardware=hardware,
        rtf=rtf,
        learning=learning,
        settings=tuple(settings or ()),
        viewer=viewer,
        reward=reward,
        classifier=str(classifier.absolute()) if classifier else "",
        partner=partner,
        wandb=wandb,
        from_policy=from_policy,
        init_from=init_from,
        prior=named_priors(prior or ()),
        mapping=str(mapping.absolute()) if mapping else "",
        actors=actors,
    )
    given = {parameter for parameter in context.params if _was_given(context, parameter)}
    if "person" in given and not resume:
        check_person(plan)
    if resume:
        if name:
            raise UsageError("--name and --resume exclude each other: a continued run keeps its name")
        reached = train_policy.resume(resume, plan, given, report, page=console)
    elif is_act(plan):
        check_actors(plan, page=console)
        if plan.prior:
            raise UsageError("--prior is for learning by trial: --learning act learns from demonstrations alone")
        reached = trained_run.start(plan, name, given, report)
    else:
        reached = train_policy.start(plan, name, report, page=console)
    if not reached:
        raise typer.Exit(1)


def _was_given(context: typer.Context, parameter: str) -> bool:
    source = context.get_parameter_source(parameter)
    return source is not None and source.name == "COMMANDLINE"
