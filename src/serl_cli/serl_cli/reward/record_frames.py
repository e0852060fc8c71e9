# SPDX-License-Identifier: Apache-2.0
"""``serl reward record``: labelled frames into a file."""

from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console
from rich.status import Status
from serl_launch.clients.client_node import Client
from serl_launch.errors import CommandError, Interrupted
from serl_launch.graph_session import scratch_folder, simulated
from serl_rl.reward.data import STAGES, FrameSource, RewardDataFile, RewardEpisode
from serl_rl.spec import DataError
from serl_rl.storage.segment import SegmentError
from serl_training.env.graph_connection import GraphError
from serl_training.env.graph_env import GraphEnv
from serl_training.reward.graph_recorder import FrameListener, drive_episode
from serl_training.reward.reward_frames import frame_source

from serl_cli.names import check_task
from serl_cli.reward.keys import pressed_keys
from serl_launch import domain
from serl_tasks import Task, get_task

_START_TIMEOUT = 60.0  # [s] until the graph is there


@dataclass
class _Tally:
    """Writes episodes and counts what they hold."""

    file: RewardDataFile
    episodes: int = 0
    frames: dict[str, int] = field(default_factory=dict)
    failure: Exception | None = None
    """Why an episode could not be written, after `try_to_take`."""

    def try_to_take(self, episode: RewardEpisode) -> None:
        """Write an episode from within a callback, where an exception would end no more than a message."""
        try:
            self.take(episode)
        except (DataError, SegmentError, OSError) as error:
            self.failure = self.failure or error

    def take(self, episode: RewardEpisode) -> None:
        """Write an episode."""
        self.file.append(episode)
        self.episodes += 1
        for label, stage in enumerate(episode.source.stages):
            self.frames[stage] = self.frames.get(stage, 0) + int((episode.labels == label).sum())

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {stage}" for stage, count in self.frames.items()) or "none"
        return f"{self.episodes} episodes; frames: {counts}"


def drive(task_name: str, path: Path, *, episodes: int, frames: int, seed: int, force: bool) -> None:
    """Records a simulated world of its own, moved through as many states of the task as possible, labelled by truth.

    Args:
        task_name: whose frames.
        path: of the file; new episodes are added to what is there.
        episodes: to record.
        frames: of each.
        seed: of all motion.
        force: begin the file anew.

    Raises:
        CommandError: the graph failed.
        DataError: the task has no cameras, or the file holds frames of another one.
        SegmentError: the file is damaged or cannot be written.
        Interrupted: a person pressed Ctrl-C.
    """
    task, source = _prepare(task_name, STAGES, path, force)
    source = replace(source, world=task.world)
    console = Console()
    with RewardDataFile(path, source) as file:
        tally = _Tally(file)
        try:
            with (
                scratch_folder("serl_reward_") as scratch,
                simulated(
                    console,
                    name=f"reward-{path.stem}",
                    task=task_name,
                    seed=seed,
                    rtf=0.0,
                    viewer=False,
                    run_dir=scratch,
                    log_dir=scratch / "log",
                    learning_nodes="false",
                    teleop="none",
                ) as graph,
                console.status("starting the graph") as status,
            ):
                env = GraphEnv(
                    task, node=graph.client.node, executor=graph.client.executor, reset_timeout=_START_TIMEOUT
                )
                for number in range(1, episodes + 1):
                    try:
                        tally.take(drive_episode(env, source, number, seed, frames))
                    except GraphError as error:
                        graph.check()
                        raise CommandError(f"recording ended early, {tally} are in {path}: {error}") from error
                    graph.check()
                    status.update(f"{number}/{episodes}: {tally}")
        except KeyboardInterrupt:
            raise Interrupted(f"recording interrupted; {tally} are in {path}") from None
    _say_done(console, path, tally)


def listen(
    task_name: str,
    path: Path,
    *,
    episodes: int,
    labelled_by: str,
    stages: tuple[str, ...],
    graph: str,
    max_skew: float,
    force: bool,
) -> None:
    """Records what happens in a graph that somebody else started, until there are enough episodes.

    Args:
        task_name: whose frames.
        path: of the file; new episodes are added to what is there.
        episodes: to record.
        labelled_by: truth, keys or button.
        stages: names of the labels, success last.
        graph: name of the running graph, empty for the only one.
        max_skew: how far apart pictures of different cameras may be that make one frame [s].
        force: begin the file anew.

    Raises:
        CommandError: there is no graph, or no terminal for the keys.
        DataError: the task has no cameras, or the file holds frames of another one.
        SegmentError: the file is damaged or cannot be written.
        Interrupted: a person pressed Ctrl-C.
    """
    task, source = _prepare(task_name, stages, path, force)
    console = Console()
    found = domain.join(graph)
    if found is not None:
        console.print(f"graph {found.name}, ROS_DOMAIN_ID {found.domain_id}", highlight=False, soft_wrap=True)
    keys = pressed_keys() if labelled_by == "keys" else nullcontext(lambda: "")
    with RewardDataFile(path, source) as file, keys as read, Client() as client:
        tally = _Tally(file)
        listener = FrameListener(client.node, task, source, labelled_by, tally.try_to_take, max_skew)
        if labelled_by == "keys":
            console.print(_key_help(source), highlight=False, soft_wrap=True)
        try:
            with console.status("waiting for pictures") as status:

                def tick() -> None:
                    if tally.failure is not None:
                        raise tally.failure
                    for key in read():
                        _press(key, listener, source)
                    _show(status, listener, source, tally)

                client.spin_until(lambda: tally.episodes >= episodes, float("inf"), tick)
        except KeyboardInterrupt:
            listener.finish()
            if tally.failure is not None:
                raise tally.failure from None
            raise Interrupted(f"recording ended; {tally} are in {path}") from None
    _say_done(console, path, tally)


def _prepare(task_name: str, stages: tuple[str, ...], path: Path, force: bool) -> tuple[Task, FrameSource]:
    check_task(task_name)
    if not path.absolute().parent.is_dir():
        raise CommandError(f"{path}: there is no folder {path.absolute().parent}")
    task = get_task(task_name)
    source = frame_source(task, stages)
    if force:
        path.unlink(missing_ok=True)
    return task, source


def _key_help(source: FrameSource) -> str:
    stages = "  ".join(f"{number} {stage}" for number, stage in enumerate(source.stages))
    return f"keys: s success from now on, f failure from now on, n next episode, Ctrl-C end; or a stage: {stages}"


def _press(key: str, listener: FrameListener, source: FrameSource) -> None:
    last = len(source.stages) - 1
    if key == "n":
        listener.finish()
    elif key in ("f", "s") or (key.isdecimal() and int(key) <= last):
        listener.say({"f": 0, "s": last}.get(key, int(key) if key.isdecimal() else 0))


def _show(status: Status, listener: FrameListener, source: FrameSource, tally: _Tally) -> None:
    missing = listener.missing()
    if missing:
        status.update(f"waits for {', '.join(missing)}; {tally}")
    else:
        status.update(f"this episode: {listener.frames} frames, now {source.stages[listener.label]}; {tally}")


def _say_done(console: Console, path: Path, tally: _Tally) -> None:
    console.print(f"{path}: {tally}; train with ./serl reward train {path}", highlight=False, soft_wrap=True)
