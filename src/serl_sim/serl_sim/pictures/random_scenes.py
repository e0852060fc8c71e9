# SPDX-License-Identifier: Apache-2.0
"""Pictures of random moments of a task, with what is to be seen in them: what an encoder is trained on.

The arm moves as in episodes, but more widely: for a while to random places, then as a clumsy expert. So there is all
that a policy may see: objects on the table, between the fingers, in the hand, fallen, and out of sight.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from serl_config.schema import Field, config
from serl_robots.control.arm_command import CommandIntegrator
from serl_robots.control.task_robot import robot_of
from serl_robots.model.pose import Pose, quaternion_exp
from serl_robots.model.robot import RobotModel

from serl_sim.pictures.randomize import LookRange, RandomLooks
from serl_sim.world import SimulationError, World
from serl_tasks import Task

# What a value of one is worth, so that all labels are about as large; of a width it is half of the widest.
_LENGTH: Final = 0.1  # [m]

_ATTEMPTS: Final = 50  # of beginning an episode


@config(kw_only=True)
class SceneRange:
    """Which moments there are."""

    wander: float = Field(
        default=8.0, ge=0.0, le=50.0, description="mean steps to random places before the expert leads"
    )
    steps: int = Field(default=24, ge=1, le=1000, description="of the expert in an episode")
    noise: float = Field(
        default=0.6, ge=0.0, le=2.0, description="largest deviation of the expert's normalized actions"
    )
    spread: float = Field(
        default=0.05, ge=0.0, le=1.0, description="how far beyond their place at the start objects lie [m]"
    )
    anywhere: float = Field(
        default=0.1, ge=0.0, le=1.0, description="share of episodes with objects anywhere on the table"
    )
    absent: float = Field(default=0.1, ge=0.0, le=1.0, description="share of episodes without objects")
    sharp: float = Field(
        default=0.7, ge=0.0, le=1.0, description="share of pictures rendered in their size; others shrunk"
    )
    looks: LookRange = Field(default_factory=LookRange)


@dataclass(frozen=True)
class Label:
    """One column, or some, of the labels."""

    name: str
    size: int
    scale: float
    """What a label of one is worth, in `unit`."""
    unit: str


@dataclass(frozen=True)
class LabelledPictures:
    """Pictures of one camera."""

    pictures: NDArray[np.uint8]
    """(N, H, W, 3)."""
    labels: NDArray[np.float32]
    """(N, T), the columns of all labels side by side."""
    weights: NDArray[np.float32]
    """(N, T): 1 where a picture can tell the label, else 0."""


def label_table(task: Task) -> tuple[Label, ...]:
    """What `labelled_pictures` says of every picture. Raises ConfigError when the task's robot cannot be used."""
    table = [
        Label("tcp_in_picture", 2, 1.0, "half pictures"),
        Label("tcp_position", 3, 1e3 * _LENGTH, "mm"),
        Label("gripper_width", 1, 1e3 * _half_width(robot_of(task)), "mm"),
    ]
    for name in task.objects:
        table += [
            Label(f"{name}_seen", 1, 1.0, ""),
            Label(f"{name}_in_picture", 2, 1.0, "half pictures"),
            Label(f"{name}_position", 3, 1e3 * _LENGTH, "mm"),
            Label(f"{name}_from_tcp", 3, 1e3 * _LENGTH, "mm"),
        ]
    return tuple(table)


def _half_width(robot: RobotModel) -> float:
    return 0.5 * robot.gripper.max_width


def labelled_pictures(task: Task, scenes: SceneRange, count: int, seed: int) -> dict[str, LabelledPictures]:
    """Pictures of `count` random moments, by camera; row i of all cameras is the same moment. Equal for equal seeds.

    Raises:
        ValueError: the task has no cameras.
        RenderError: there is no OpenGL on this machine.
    """
    if not task.cameras:
        raise ValueError(f"task {task.name!r}: expected cameras, found none")
    width = sum(label.size for label in label_table(task))
    found = {
        name: LabelledPictures(
            np.empty((count, *view.shape), np.uint8),
            np.empty((count, width), np.float32),
            np.empty((count, width), np.float32),
        )
        for name, view in task.cameras.items()
    }
    rng = np.random.default_rng(seed)
    world = World(task)
    looks = RandomLooks(world, scenes.looks)
    try:
        for index, _ in zip(range(count), _moments(world, scenes, rng), strict=False):
            looks.draw(rng)
            looks.show()
            factor = 1 if rng.random() < scenes.sharp else 2
            for name, rows in found.items():
                picture = looks.render(name, *world.picture_size(name, factor))
                rows.pictures[index] = task.cameras[name].apply(picture)
                rows.labels[index], rows.weights[index] = _labels(world, looks, name)
    finally:
        looks.close()
        world.close()
    return found


def _moments(world: World, scenes: SceneRange, rng: np.random.Generator) -> Iterator[None]:
    """Yields after every control step of endless episodes; a world that diverged begins another."""
    task = world.task
    gripper = world.robot.gripper
    integrator = CommandIntegrator(task.action, task.limits, task.control_period, frame=task.frame)
    low, high = np.array(task.limits.workspace_min), np.array(task.limits.workspace_max)
    while True:
        _begin(world, scenes, rng)
        arm = world.arm_sample()
        integrator.reset(arm.tcp, arm.gripper_width)
        expert = task.make_expert(rng, scenes.noise * rng.random())
        expert.reset()
        wander = int(rng.exponential(scenes.wander)) if scenes.wander else 0
        for step in range(wander + scenes.steps):
            try:
                if step >= wander:
                    command = integrator.step(expert.act(world.arm_sample(), world.objects()))
                else:
                    if step % 5 == 0:
                        place, width = rng.uniform(low, high), rng.uniform(gripper.min_width, gripper.max_width)
                    command = integrator.move(tuple(place), task.limits.reference_orientation, width)
                world.step(command.target, command.gripper_width)
            except SimulationError:
                break
            integrator.see(world.arm_sample().tcp)
            integrator.observe(world.arm_sample().tcp, task.control_period)
            yield


def _begin(world: World, scenes: SceneRange, rng: np.random.Generator) -> None:
    """Begin an episode. Where the tool cannot start with the objects that were drawn, others are."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            world.reset(int(rng.integers(2**31)), _places(world, scenes, rng))
        except ValueError:
            if attempt == _ATTEMPTS:
                raise
        else:
            return


def _places(world: World, scenes: SceneRange, rng: np.random.Generator) -> dict[str, Pose]:
    """Where the objects are at the start of an episode."""
    chance = rng.random()
    places = {}
    for name, item in world.task.objects.items():
        if item.lower is None or item.upper is None:
            continue  # it is where another one is
        if name == world.task.start.beside:  # where the tool starts there has to be something to start beside
            low, high = np.array(item.lower) - scenes.spread, np.array(item.upper) + scenes.spread
        elif chance < scenes.absent:
            low = high = np.array((0.0, 5.0))  # beyond the table, from where it falls
        elif chance < scenes.absent + scenes.anywhere:
            low, high = np.array(world.file.table.lower) + 0.05, np.array(world.file.table.upper) - 0.05
        else:
            low, high = np.array(item.lower) - scenes.spread, np.array(item.upper) + scenes.spread
        x, y = rng.uniform(low, high).tolist()
        yaw = np.radians(item.yaw_deg) * rng.uniform(-1.0, 1.0)
        places[name] = Pose((x, y, item.start_height), quaternion_exp((0.0, 0.0, float(yaw))))
    return places


def _labels(world: World, looks: RandomLooks, camera: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Labels (T,) of the present moment and the weights (T,) of a camera."""
    arm, objects = world.arm_sample(), world.objects()
    middle = 0.5 * np.add(world.task.limits.workspace_min, world.task.limits.workspace_max)
    # What the arm carries cannot tell where in the world it is.
    fixed = float(world.cameras[camera].parent == "world")
    seen, place = _in_picture(looks, camera, world.task, arm.tcp.position)
    labels = [*place, *(arm.tcp.position - middle) / _LENGTH, arm.gripper_width / _half_width(world.robot) - 1.0]
    weights = [seen, seen, fixed, fixed, fixed, 1.0]
    for name in world.task.objects:
        position = objects[name].position
        seen, place = _in_picture(looks, camera, world.task, position)
        way = (position - arm.tcp.position) / _LENGTH
        labels += [seen, *place, *(position - middle) / _LENGTH, *way]
        weights += [1.0, seen, seen, *[seen * fixed] * 3, *[seen] * 3]
    weighted = np.array(weights)
    return np.where(weighted > 0.0, labels, 0.0), weighted


def _in_picture(
    looks: RandomLooks, camera: str, task: Task, point: NDArray[np.float64]
) -> tuple[float, tuple[float, float]]:
    """Whether a point lies within the picture that the task sees, 1 or 0, and where: right and down, -1 to 1.

    What fell off the table, which hides it, is not seen.
    """
    view = task.cameras[camera]
    pixel = looks.view(camera).project(point, *view.size)
    if pixel is None or point[2] < 0.0:
        return 0.0, (0.0, 0.0)
    left, top, width, height = view.box(*view.size)
    right, down = 2.0 * (pixel[0] - left) / width - 1.0, 2.0 * (pixel[1] - top) / height - 1.0
    return float(max(abs(right), abs(down)) <= 1.0), (right, down)
