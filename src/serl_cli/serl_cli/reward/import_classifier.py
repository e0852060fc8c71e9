# SPDX-License-Identifier: Apache-2.0
"""``serl reward import``: classifiers of other stacks become files of ours."""

from collections.abc import Callable, Sequence
from pathlib import Path

from serl_launch.errors import UsageError
from serl_rl.imported.classifier import import_classifier
from serl_training.reward.reward_frames import frame_source

from serl_cli.names import check_task
from serl_tasks import get_task


def import_lerobot(
    source: Path,
    out: Path,
    task: str,
    cameras: Sequence[str],
    threshold: float,
    consecutive: int,
    say: Callable[[str], None],
) -> None:
    """Write the file of a classifier that judges a task as LeRobot's does.

    Args:
        source: directory of LeRobot's classifier.
        out: file to write.
        task: whose pictures it judges.
        cameras: NAME=CAMERA, from LeRobot's names of pictures to the task's cameras.
        threshold: probability from which a frame counts as success.
        consecutive: frames in a row that make one.
        say: prints a line.

    Raises:
        UsageError: there is no such task, or a camera is not NAME=CAMERA.
        ForeignError: the classifier cannot be read, or not for this task.
        DataError: the task has no cameras.
    """
    check_task(task)
    named = {}
    for text in cameras:
        name, separator, camera = text.partition("=")
        if not (name and separator and camera):
            raise UsageError(f"--camera {text[:80]}: expected NAME=CAMERA, as observation.images.top=front")
        named[name] = camera
    frames = frame_source(get_task(task))
    info = import_classifier(source, out, frames, named, threshold=threshold, consecutive=consecutive)
    say(
        f"{out}: judges {task} by {', '.join(info.cameras)}; {consecutive} frames of at least {threshold:g} are success"
    )
    say(f"check it with ./serl reward check {out} FRAMES")
