# SPDX-License-Identifier: Apache-2.0
"""Controllers of a controller_manager: which have to be switched, and in what order one takes the joints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from serl_config.schema import suggestion

ACTIVE = "active"
INACTIVE = "inactive"


class ControllerError(ValueError):
    """A controller that is not there, or cannot do what is wanted; says which there are, and what to do."""


@dataclass(frozen=True)
class Controller:
    """One controller, as its manager tells."""

    name: str
    state: str
    required: tuple[str, ...] = ()
    """Command interfaces that it needs, as `joint1/position`, in its own order of joints."""
    claimed: tuple[str, ...] = ()
    """Command interfaces that it has now."""


@dataclass(frozen=True)
class Switch:
    """What is activated and deactivated in one step."""

    activate: tuple[str, ...] = ()
    deactivate: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.activate or self.deactivate)

    @property
    def command(self) -> str:
        """The command by which a person would have it done."""
        words = ["ros2 control switch_controllers"]
        words += [f"--activate {' '.join(self.activate)}"] if self.activate else []
        words += [f"--deactivate {' '.join(self.deactivate)}"] if self.deactivate else []
        return " ".join(words)


def named(name: str, controllers: Sequence[Controller]) -> Controller:
    """The controller of that name.

    Raises:
        ControllerError: there is none.
    """
    for controller in controllers:
        if controller.name == name:
            return controller
    names = [each.name for each in controllers]
    raise ControllerError(
        f"no controller {name!r}{suggestion(name, names)}; loaded are {', '.join(names) or 'none'} "
        f"(ros2 control list_controllers); start it with `ros2 run controller_manager spawner {name} --inactive`"
    )


def switch_to(name: str, controllers: Sequence[Controller]) -> Switch:
    """What has to be switched so that `name` is active: whoever has one of its joints, by any interface, lets go of it.

    Raises:
        ControllerError: there is no such controller, or it is neither active nor inactive.
    """
    wanted = named(name, controllers)
    if wanted.state == ACTIVE:
        return Switch()
    if wanted.state != INACTIVE:
        raise ControllerError(
            f"controller {name!r} is {wanted.state}: expected it active or inactive; look at the log of the "
            f"controller_manager, then `ros2 control set_controller_state {name} inactive`"
        )
    joints = _joints(wanted.required)
    others = [each.name for each in controllers if each.state == ACTIVE and joints & _joints(each.claimed)]
    return Switch((name,), tuple(others))


def switch_back(made: Switch, controllers: Sequence[Controller]) -> Switch:
    """What has to be switched so that it is as before `made`; nothing where somebody else has switched meanwhile."""
    states = {each.name: each.state for each in controllers}
    if any(states.get(name) != ACTIVE for name in made.activate):
        return Switch()
    return Switch(tuple(name for name in made.deactivate if states.get(name) == INACTIVE), made.activate)


def order_of(controller: Controller, arm_joints: Sequence[str], finger: str) -> tuple[str, ...]:
    """Joints in the order in which a controller of joint positions takes them: the arm's, and `finger` where it has it.

    Raises:
        ControllerError: it has other joints, or another interface than the position.
    """
    joints = tuple(name.rpartition("/")[0] for name in controller.required)
    if set(joints) - {finger} != set(arm_joints) or any(not each.endswith("/position") for each in controller.required):
        raise ControllerError(
            f"controller {controller.name!r} commands {', '.join(controller.required) or 'nothing'}: expected the "
            f"position of {', '.join(arm_joints)}; correct its `joints` and `command_interfaces`"
        )
    return joints


def _joints(interfaces: Sequence[str]) -> set[str]:
    return {name.rpartition("/")[0] for name in interfaces}
