# SPDX-License-Identifier: Apache-2.0
"""``serl record``, ``replay``, ``convert`` and ``data``: recordings of episodes."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from serl_launch.errors import UsageError

from serl_cli.commands.options import (
    GraphOption,
    HardwareOption,
    RobotOption,
    RtfOption,
    SeedOption,
    TaskArgument,
    TeleopOption,
    ViewerOption,
)
from serl_cli.ranges import LARGEST_COUNT

data = typer.Typer(rich_markup_mode="rich", no_args_is_help=True)

RecordingArgument = Annotated[
    Path, typer.Argument(metavar="RECORDING", help="File or folder: a recording of any format, or a run.")
]
RateOption = Annotated[
    float | None, typer.Option("--rate", min=0.001, help="Control steps per second, where it does not say them [Hz].")
]


def record(
    task: TaskArgument = "insert_peg_vision",
    robot: RobotOption = "",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="File to write. Default: TASK.serl.")
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, max=LARGEST_COUNT, help="Successful demonstrations wanted.")] = 20,
    pictures: Annotated[
        Literal["jpeg", "raw"],
        typer.Option(help="How it keeps what the cameras saw: JPEG of quality 95, or raw, which is larger."),
    ] = "jpeg",
    seed: SeedOption = 0,
    teleop: TeleopOption = "scripted",
    rtf: RtfOption = 0.0,
    viewer: ViewerOption = False,
    hardware: HardwareOption = "simulated",
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    raw: Annotated[
        Path | None,
        typer.Option("--raw", metavar="FOLDER", help="Record all topics, too, as they are: into an MCAP bag."),
    ] = None,
) -> None:
    """Record demonstrations of the person who leads into a file that [bold]./serl train --demo-file[/bold] reads.

    Of a task with cameras it holds the pictures, so it can be used with any encoder. The file is data, never code. It
    appears when it is complete: an interrupted recording leaves an older file alone.

    Examples:
        ./serl record
        ./serl record pick_cube --episodes 5 --out five.serl
        ./serl record pick_cube --teleop spacemouse --rtf 1 --viewer --raw bag
        ./serl record pick_cube --robot so101 --hardware emulated
    """
    from serl_cli.names import on_robot
    from serl_cli.work import record_demonstrations

    task = on_robot(task, robot)
    record_demonstrations.record(
        task,
        out or Path(f"{task}.serl"),
        episodes=episodes,
        pictures=pictures,
        seed=seed,
        teleop=teleop,
        rtf=rtf,
        viewer=viewer,
        hardware=hardware,
        force=force,
        raw=raw,
    )


def replay(
    recording: RecordingArgument,
    task: TaskArgument,
    episode: Annotated[int | None, typer.Option(min=0, help="Only the episode of this number.")] = None,
    successes: Annotated[bool, typer.Option("--successes", help="Only episodes that succeeded.")] = False,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=LARGEST_COUNT, help="Seed that it was recorded with. Default: what it says, else 0."),
    ] = None,
    rate: RateOption = None,
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="Take a recording that does not say what its actions mean.")
    ] = False,
    rtf: RtfOption = 0.0,
    viewer: ViewerOption = False,
    arm: Annotated[
        bool,
        typer.Option("--arm", help="On the arm of a graph that runs; a person puts its world back, or its simulator."),
    ] = False,
    max_drift: Annotated[
        float | None,
        typer.Option(
            "--max-drift",
            min=0.1,
            help="Stop the arm of --arm when its tool is farther from where it was recorded [mm]. Default: 50.",
        ),
    ] = None,
    graph: GraphOption = "",
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
) -> None:
    """Replay the actions of a recording, through the safety filter, and say how far it differs from what was recorded.

    A simulation is started for it, from the start states of the recording's seed, unless [bold]--arm[/bold] is given.
    Actions of another size, unit, frame, robot or rate than the task's are refused. With [bold]--arm[/bold] they go at
    the pace at which they were recorded, until the e-stop, Ctrl-C, or a tool that is elsewhere: then the arm is held.

    Examples:
        ./serl replay demonstrations.serl insert_peg_vision
        ./serl replay runs/NAME pick_cube --successes --rtf 1 --viewer
        ./serl replay demonstrations.serl pick_cube --episode 3 --arm
    """
    from serl_cli.work import graph_replay

    graph_replay.replay(
        recording,
        task,
        episode=episode,
        successes=successes,
        seed=seed,
        rate=rate,
        unchecked=unchecked,
        rtf=rtf,
        viewer=viewer,
        arm=arm,
        max_drift=None if max_drift is None else 1e-3 * max_drift,
        graph=graph,
        json_output=json_output,
    )


def convert(
    source: RecordingArgument,
    target: Annotated[Path, typer.Argument(metavar="OUT", help="File or folder to write; nothing may be there yet.")],
    to: Annotated[str, typer.Option("--to", help="Format to write; by default what the name of OUT says.")] = "",
    pictures: Annotated[str, typer.Option(help="How pictures are written; by default as the format does.")] = "",
    successes: Annotated[bool, typer.Option("--successes", help="Only episodes that succeeded.")] = False,
    demonstrations: Annotated[bool, typer.Option("--demonstrations", help="Only demonstrations, of a run.")] = False,
    without: Annotated[
        list[str] | None, typer.Option("--without", metavar="NAME", help="Leave this entry of the observation out.")
    ] = None,
    task: Annotated[str, typer.Option(help="Name of the task, where the recording does not say it.")] = "",
    rate: RateOption = None,
) -> None:
    """Convert a recording, or the journal of a run, into another format.

    What is damaged is left out and named; everything complete is converted.

    Examples:
        ./serl convert runs/NAME demonstrations.serl --successes
        ./serl convert demonstrations.serl dataset --to lerobot
    """
    from serl_cli.work import convert_recording

    convert_recording.convert(
        source,
        target,
        to=to,
        pictures=pictures,
        successes=successes,
        demonstrations=demonstrations,
        without=frozenset(without or ()),
        task=task,
        rate=rate,
    )


@data.callback()
def data_overview() -> None:
    """Look into recordings of any format: what is in them, and what is wrong with them.

    Examples:
        ./serl data info demonstrations.serl
        ./serl data check demonstrations.serl
        ./serl data plot demonstrations.serl --out demonstrations.png
    """


@data.command("info")
def data_info(recording: RecordingArgument, rate: RateOption = None) -> None:
    """Show what a recording holds: episodes, lengths, rates, ranges of the actions."""
    from serl_cli.work import convert_recording

    convert_recording.info(recording, rate)


@data.command("plot")
def data_plot(
    recording: RecordingArgument,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="PNG or HTML. Default: RECORDING.html, here.")
    ] = None,
    rate: RateOption = None,
) -> None:
    """Draw a recording: lengths, rates by the stamps, values and saturation of the actions, what the cameras saw.

    As HTML it is a page that needs no other file, and says what [bold]info[/bold] and [bold]check[/bold] say.
    """
    from serl_cli.work import convert_recording

    out = out or Path(f"{recording.absolute().name}.html")
    if out.suffix not in (".html", ".png"):
        raise UsageError(f"--out {out}: expected a name that ends in .html or .png")
    convert_recording.plot(recording, out, rate)


@data.command("reindex")
def data_reindex(
    bag: Annotated[Path, typer.Argument(metavar="BAG", help="Folder of a bag of topics.")],
) -> None:
    """Make a bag of topics whole whose recorder was killed: its last file lacks its index."""
    from serl_cli.work import convert_recording

    convert_recording.make_whole(bag)


@data.command("check")
def data_check(recording: RecordingArgument, rate: RateOption = None) -> None:
    """Look for damage, dropped frames, clock jumps, frozen cameras, constant actions; exit status 1 if there are."""
    from serl_cli.work import convert_recording

    convert_recording.check(recording, rate)
