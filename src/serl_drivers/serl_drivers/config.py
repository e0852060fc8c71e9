# SPDX-License-Identifier: Apache-2.0
"""Files `config/drivers/NAME.yaml`: which device an arm hangs at, and how it is driven."""

from __future__ import annotations

from functools import cache
from typing import Any

from serl_config.named_files import load_named
from serl_config.optional import missing
from serl_config.schema import ConfigError, Field, config, suggestion
from serl_robots.control.arm_task import ArmTask

from serl_config import resources
from serl_drivers.device_kinds import KINDS, NEEDS

FOLDER = "config/drivers"


@config(kw_only=True)
class EmulatorConfig:
    """A program that stands for an arm that is not there."""

    command: tuple[str, ...] = Field(
        default=(), description="program and arguments, {port} for the arm's address; empty: the device brings its own"
    )
    modules: tuple[str, ...] = Field(default=(), description="Python modules that client and emulator need")
    extra: str = Field(description="of ./serl setup that brings them")

    @property
    def missing(self) -> str:
        """What is not installed, and what brings it; empty where all is there."""
        return missing("the emulator", self.modules, self.extra)


@config(kw_only=True)
class DriverConfig:
    """One way to drive a robot."""

    name: str
    robot: str = Field(default="", description="file in config/robots that it drives; empty: any")
    device: str = Field(description="kind of device; docs/drivers.md lists them")
    rate: float = Field(default=100.0, ge=10.0, le=1000.0, description="of targets on the wire [Hz]")
    gripper_speed: float = Field(default=0.2, gt=0.0, le=100.0, description="largest speed of the opening [m/s]")
    publish_joint_states: bool = Field(
        default=True, description="false: somebody else does, as joint_state_broadcaster"
    )
    limp_at_end: bool = Field(default=False, description="switch the torque off when the node ends")
    emulator: EmulatorConfig | None = Field(default=None, description="what answers, where there is no arm")
    settings: dict[str, Any] = Field(default_factory=dict, description="of the device, see its own schema")
    gripper: dict[str, Any] = Field(
        default_factory=dict, description="`device` and settings of a gripper that is not the arm's own; empty: none"
    )

    @property
    def missing(self) -> str:
        """One line about what its vendor's part, or the emulator, needs and is not installed; empty where all is."""
        if self.emulator is not None:
            line = self.emulator.missing
        else:
            module, extra = NEEDS.get(self.device, ("", ""))
            line = missing(f"device {self.device!r}", [module], extra) if module else ""
        return f"driver {self.name!r}: {line}" if line else ""


def driver_names() -> list[str]:
    """Names of the drivers that there are."""
    return [*resources.listing(FOLDER, ".yaml")]


@cache
def load_driver(name: str) -> DriverConfig:
    """The driver `config/drivers/<name>.yaml`.

    Raises:
        ConfigError: there is none, or its file is wrong.
    """
    driver, file = load_named(FOLDER, name, DriverConfig, "driver")
    if driver.device not in KINDS:
        raise ConfigError(f"{file}: 'device': unknown device {driver.device!r}" + suggestion(driver.device, [*KINDS]))
    return driver


def check_driver(driver: DriverConfig, task: ArmTask, namespace: str) -> None:
    """Refuse a task that is not one of the arm that a driver moves.

    Args:
        driver: of one arm.
        task: that the graph is started for.
        namespace: of the node: of two arms each has a driver in a namespace of its own.

    Raises:
        ConfigError: the task is of another robot, or of two arms and this is neither.
    """
    if driver.robot not in ("", task.robot):
        raise ConfigError(
            f"driver {driver.name!r}: expected one that drives the robot of task {task.name!r}, {task.robot!r}, "
            f"found one that drives {driver.robot!r}"
        )
    if task.arms and namespace.rpartition("/")[2] not in task.arm_names:
        raise ConfigError(
            f"driver {driver.name!r}: it moves one arm, and task {task.name!r} has two: expected the namespace of one, "
            f"{' or '.join(task.arm_names)}, found {namespace!r}; or choose a task of one arm"
        )
