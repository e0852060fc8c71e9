# SPDX-License-Identifier: Apache-2.0
"""Recording of demonstrations into a file, from the command line."""

import os
import shlex
import shutil
from pathlib import Path
from typing import Any

from rich.console import Console
from serl_launch.errors import CommandError, Interrupted, UsageError
from serl_launch.graph_session import GraphSession, around_arm, scratch_folder, simulated
from serl_launch.needs import refuse_missing
from serl_recording.episode import RecordingError
from serl_recording.registry import check_free, open_recording
from serl_rl.storage.demonstrations import part_of

from serl_cli.names import check_task
from serl_cli.training_plan import check_arms, check_driver, check_teleop


def record(
    task: str,
    path: Path,
    *,
    episodes: int,
    pictures: str,
    seed: int,
    teleop: str,
    rtf: float,
    viewer: bool,
    force: bool,
    hardware: str = "simulated",
    raw: Path | None = None,
) -> None:
    """Records successful demonstrations of the person who leads.

    Args:
        task: to demonstrate.
        path: of the file; it appears when it is complete.
        episodes: successful ones wanted.
        pictures: how they are kept, jpeg or raw.
        seed: of their starts.
        teleop: who demonstrates, as of the launch file.
        rtf: real-time factor; 0: lockstep.
        viewer: whether MuJoCo's window opens.
        force: replace an existing file.
        hardware: simulated, or emulated or real behind its driver; of a real one a person judges.
        raw: folder of a bag of all topics, where there is nothing yet; None: none is recorded.

    Raises:
        CommandError: the file is there already or cannot be written, or the graph failed.
        Interrupted: a person pressed Ctrl-C.
    """
    check_task(task)
    check_arms(task, teleop=teleop)
    if hardware == "simulated":
        check_teleop(teleop, rtf)
    else:
        _check_arm(task, hardware, teleop, alone=not (viewer or raw))
    refuse_missing({"teleop": teleop, "raw": "" if raw is None else str(raw)})
    if path.is_dir():
        raise CommandError(f"{path} is a folder: choose a file with --out")
    if path.exists() and not force:
        raise CommandError(f"{path} exists: choose another --out, or --force to replace it")
    if not path.absolute().parent.is_dir():
        raise CommandError(f"{path}: there is no folder {path.absolute().parent}")
    if not os.access(path.absolute().parent, os.W_OK):
        raise CommandError(f"{path}: the folder {path.absolute().parent} cannot be written")

    if raw is not None:
        check_free(raw, "mcap")
    from serl_interfaces.action import Record

    console = Console()
    try:
        with (
            scratch_folder("serl_record_") as scratch,
            _graph(
                console,
                path,
                hardware,
                rtf=rtf,
                viewer=viewer,
                raw=raw,
                task=task,
                seed=seed,
                teleop=teleop,
                run_dir=scratch,
                log_dir=scratch / "log",
                demonstration_pictures=pictures,
            ) as graph,
            console.status("starting the graph") as status,
        ):
            if hardware != "simulated":
                graph.switch_on()
            result = graph.run_action(
                Record,
                "record",
                Record.Goal(episodes=episodes, seed=seed, path=str(path.absolute())),
                executable="actor",
                on_feedback=lambda feedback: status.update(
                    f"{feedback.episodes}/{episodes} demonstrations in {feedback.attempts} attempts"
                    f"{needed_room(path, feedback.episodes, episodes)}"
                ),
            )
    except KeyboardInterrupt:
        raise Interrupted(
            f"recording interrupted; {path} was not {'changed' if path.exists() else 'made'}{_saved(path)}"
        ) from None
    if not result.success:
        raise CommandError(f"recording ended early ({result.termination_reason}): {result.message}{_saved(path)}")
    console.print(
        f"{result.path}: {result.episodes} demonstrations, {result.transitions} transitions, "
        f"{result.attempts} attempts; use it with ./serl train {task} --demo-file {path}",
        highlight=False,
        soft_wrap=True,
    )


def _check_arm(task: str, hardware: str, teleop: str, *, alone: bool) -> None:
    check_driver(task, hardware)
    option = f"--hardware {hardware}"
    if not alone:
        raise UsageError(f"{option} has neither --viewer nor --raw")
    if hardware == "real" and teleop == "scripted":
        raise UsageError(f"{option}: nobody knows there where things are: choose who leads, --teleop")


def _graph(
    console: Console, path: Path, hardware: str, *, rtf: float, viewer: bool, raw: Path | None, **common: Any
) -> GraphSession:
    name = f"record-{path.stem}"
    if hardware == "simulated":
        bag = str(raw.absolute()) if raw is not None else ""
        return simulated(console, name=name, rtf=rtf, viewer=viewer, raw=bag, **common)
    judge = "human" if hardware == "real" else "truth"
    return around_arm(console, name=name, hardware=hardware, reward=judge, **common)


def needed_room(path: Path, done: int, wanted: int) -> str:
    """How large the file will be, by what is in it, and whether the disk has room for that; empty before the first."""
    try:
        size, free = part_of(path).stat().st_size, shutil.disk_usage(path.absolute().parent).free
    except OSError:  # it has its name already
        return ""
    if not done:
        return ""
    whole = size * wanted / done
    short = f", and the disk has room for {free / 1e6:.0f} MB more" if whole - size > free else ""
    return f"; about {whole / 1e6:.1f} MB in the end{short}"


def _saved(path: Path) -> str:
    """How to get what a recording has left that did not end."""
    part, count = part_of(path), 0
    if not part.is_file():
        return ""
    try:
        for _ in open_recording(part).episodes(lambda _: None):
            count += 1
    except (RecordingError, OSError):
        return ""
    target = path if not path.exists() else path.with_name(f"{path.stem}_saved{path.suffix}")
    command = shlex.join(["./serl", "convert", str(part), str(target), "--to", "serl"])
    return f"; its {count} demonstrations can be had: {command}" if count else ""
