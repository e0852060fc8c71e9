# SPDX-License-Identifier: Apache-2.0
"""`config/security/policy.xml` and the nodes say the same: what has no line is found here, and so is a line of nothing.

What a node does is read from the source of all that its executable imports. Names that are made while it runs stand in
`NAMES`, with what they can be.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from functools import cache
from itertools import product
from pathlib import Path

import pytest
from serl_security.policy import Access, Enclave, load_policy

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "src"
LAUNCH = ROOT / "launch"
ARMS = ("", "left/", "right/")

CALLS = {
    "create_publisher": (Access.PUBLISH, 1),
    "create_subscription": (Access.SUBSCRIBE, 1),
    "subscribe": (Access.SUBSCRIBE, 2),
    "create_service": (Access.REPLY, 1),
    "create_client": (Access.REQUEST, 1),
    "listen": (Access.SUBSCRIBE, 1),
    "ActionClient": (Access.CALL, 2),
    "GuardedActionServer": (Access.EXECUTE, 2),
    "ActionServer": (Access.EXECUTE, 2),
}
"""What makes an endpoint → what it does, and which argument is the name."""

PASSED_ON = {"serl_drivers.commands_node", "serl_ros.incoming"}
"""Modules that are given the name by those whose calls are looked at."""

LOADED_BY_NAME = {"driver": "serl_drivers."}
"""Executables that import by name → what modules' names begin with."""

NO_NODE = {"emulator"}
"""Executables that are no nodes: a vendor's program."""

NAMES = {
    ("serl_link.link_node", "INSERT.name"): ["learner/insert"],
    ("serl_link.link_node", "METRICS.name"): ["metrics"],
    ("serl_link.link_node", "POLICY.name"): ["learner/policy"],
    ("serl_robots.arm_controller_node", "self._pair.topic('episode')"): ["episode"],
    ("serl_robots.arm_controller_node", "self._publish"): [],  # another `listen`, in other_arm_node
    ("serl_robots.other_arm_node", "topic"): [
        "left/arm/state",
        "right/arm/state",
        "left/arm/safety",
        "right/arm/safety",
    ],
    ("serl_ros.driver_status", "topic"): ["driver/status"],
    ("serl_sim.mujoco_bridge_node", "gripper"): ["gripper_controller/commands"],
    ("serl_sim.mujoco_bridge_node", "pose"): ["target_pose"],
    ("serl_sim.state_publisher_node", "topic"): ["joint_states", "robot_joint_states"],
    ("serl_sim.emulated_arm_node", "topic"): ["joint_states"],
    ("serl_teleop.scripted_human_node", "topic"): ["arm/state"],
    ("serl_teleop.leader_parameters_node", "topic"): ["leader/joint_states"],  # and a goal, by default nowhere
    ("serl_teleop.leader_parameters_node", "joy"): ["joy"],
    ("serl_teleop.open_devices_node", "topic"): ["joy", "teleop/twist"],
    ("serl_teleop.console.graph_deeds", "name"): [
        *("reward/success", "reward/failure", "sim/reset"),
        *("episode/discard", "episode/rewind", "episode/pause", "episode/ready"),
    ],
    ("serl_training.env.graph_cameras", "camera.topic"): ["*/color/image_raw", "*/color/image_raw/compressed"],
    ("serl_training.env.graph_inputs", "state"): ["arm/state"],
    ("serl_training.env.graph_inputs", "executed"): ["arm/executed"],
    ("serl_training.env.graph_inputs", "safety"): ["arm/safety"],
    ("serl_training.actor.graph_job_server", "name"): ["train", "evaluate", "record", "episode/reset"],
    ("serl_training.fleet.graph_arms", "action"): ["train", "evaluate", "record"],
    ("serl_training.raw_recorder_node", "name"): ["/*"],
    ("serl_drivers.ros2_control.controller_manager_node", "name"): ["controller_manager"],
    ("serl_drivers.ros2_control.gripper_node", "self.name"): [
        "gripper_controller/gripper_cmd",
        "franka_gripper/gripper_action",
    ],
    ("serl_drivers.ros2_control.device_node", "settings.joint_states"): ["joint_states"],
    ("serl_drivers.ros2_control.other_commanders_node", "action"): [
        "joint_trajectory_controller/follow_joint_trajectory",
        "gripper_controller/gripper_cmd",
        "franka_gripper/gripper_action",
    ],
    ("serl_drivers.ros2_control.outputs_node", "settings.joint_trajectory_controller"): ["joint_trajectory_controller"],
    ("serl_drivers.ros2_control.outputs_node", "settings.forward_position_controller"): ["forward_position_controller"],
    ("serl_drivers.ros2_control.outputs_node", "settings.target_pose"): [
        "target_pose",
        "cartesian_impedance_controller/equilibrium_pose",
    ],
}
"""(module, expression) → what it can be."""

NOT_DONE = [
    ("planner", "serl_robots.way_client_node", Access.REQUEST, "*"),  # imports the name of the service from its client
    ("reward_classifier", "serl_training.env.graph_cameras", Access.SUBSCRIBE, "*/compressed"),
    ("fleet", "serl_training.actor.graph_job_server", Access.EXECUTE, "episode/reset"),
    ("emulated_arm", "serl_sim.state_publisher_node", Access.PUBLISH, "*"),  # imports what a state is
    ("gym_bridge", "serl_sim.state_publisher_node", Access.PUBLISH, "*robot_joint_states"),
    ("gym_bridge", "serl_sim.state_publisher_node", Access.PUBLISH, "*/joint_states"),  # it has one arm
    ("mujoco_bridge", "serl_sim.state_publisher_node", Access.PUBLISH, "*/robot_joint_states"),
    ("teleop", "serl_teleop.leader_parameters_node", Access.PUBLISH, "*"),  # a leader's goal: by default there is none
]
"""Executable, module, access and names: what an executable could do by what it imports, and does not."""


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the workspace by its name; that of a package is the package."""
    files = SOURCES.glob("serl_*/serl_*/**/*.py")
    names = {file: ".".join(file.relative_to(SOURCES).with_suffix("").parts[1:]) for file in files}
    return {name.removesuffix(".__init__"): ast.parse(file.read_text("utf-8")) for file, name in names.items()}


@cache
def imported(module: str) -> dict[str, tuple[str, str]]:
    """Names that a module imports from others of the workspace, wherever in it → module, and name there or ""."""
    found = {}
    for node in ast.walk(modules()[module]):
        if isinstance(node, ast.Import):
            found.update({each.name: (each.name, "") for each in node.names if each.name in modules()})
        elif isinstance(node, ast.ImportFrom):
            for each in node.names:
                inner = f"{node.module}.{each.name}"
                if inner in modules():
                    found[each.asname or each.name] = inner, ""
                elif node.module in modules():
                    found[each.asname or each.name] = str(node.module), each.name
    return found


@cache
def executables() -> dict[str, set[str]]:
    """Executable → all modules that it imports."""
    found = {}
    for setup in sorted(SOURCES.glob("serl_*/setup.py")):
        for name, package, module in re.findall(
            r"\"(\w+) = serl_ros\.console:(\w+)\.(\w+)\"", setup.read_text("utf-8")
        ):
            waiting, seen = [f"{package}.{module}"], set[str]()
            if name in LOADED_BY_NAME:
                waiting += [each for each in modules() if each.startswith(LOADED_BY_NAME[name])]
                waiting = [each for each in waiting if not each.endswith("_node") or "." in each.partition(".")[2]]
                waiting += [f"{package}.{module}"]
            while waiting:
                each = waiting.pop()
                if each not in seen:
                    seen.add(each)
                    waiting += [other for other, _ in imported(each).values()]
                    waiting += [each.rpartition(".")[0]] if each.rpartition(".")[0] in modules() else []
            found[name] = seen
    return found


def values(expression: ast.expr, module: str) -> list[str]:
    """The names that an expression can be; `*` in them stands for what is not known."""
    known = NAMES.get((module, ast.unparse(expression)))
    if known is not None:
        return known
    match expression:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.Name(id=name):
            for node in modules()[module].body:
                target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
                if isinstance(target, ast.Name) and target.id == name:
                    return values(node.value, module)  # type: ignore[attr-defined]
            other, there = imported(module).get(name, ("", ""))
            return values(ast.Name(there), other) if there else ["*"]
        case ast.JoinedStr(values=parts):
            return ["".join(words) for words in product(*(values(part, module) for part in parts))]
        case ast.FormattedValue(value=value):
            return values(value, module)
        case ast.BinOp(left=left, right=right):
            return [a + b for a, b in product(values(left, module), values(right, module))]
        case ast.Call(func=ast.Name(id="arm_topic"), args=[_, name]):
            return [arm + each for arm, each in product(ARMS, values(name, module))]
    return ["*"]


@cache
def endpoints(module: str) -> list[tuple[int, Access, list[str]]]:
    """What the code of a module makes: line, access, and the names that it can have."""
    found = []
    for node in ast.walk(modules()[module]):
        if isinstance(node, ast.Call) and module not in PASSED_ON:
            what = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            access, place = CALLS.get(what, (None, 0))
            if access is not None and len(node.args) > place:
                found.append((node.lineno, access, values(node.args[place], module)))
            elif access is not None and what.startswith(("create_", "Action", "Guarded")):
                found.append((node.lineno, access, ["*"]))  # a name by its keyword, or by a list
    return found


@cache
def enclaves() -> dict[str, Enclave]:
    return {enclave.path: enclave for enclave in load_policy(SOURCES / "serl_bringup/config/security/policy.xml")}


def done(executable: str) -> Iterator[tuple[str, Access, str]]:
    """Place, access and name of all that an executable does."""
    for module in sorted(executables()[executable]):
        for line, access, names in endpoints(module):
            for name in names:
                here = executable, module, access
                if not any(each[:3] == here and fnmatchcase(name, each[3]) for each in NOT_DONE):
                    yield f"{module}:{line}", access, name


def listed(enclave: Enclave, access: Access, name: str) -> bool:
    """Whether a name of the code, in which `*` is what is not known, is one of the policy's."""
    return any(fnmatchcase(each, name) or fnmatchcase(name, each) for each in getattr(enclave, access.value))


def renamed(name: str) -> list[str]:
    """What launch files make of a name of the code, with `*` for what is not known; arms are in their namespaces."""
    found = [name]
    for file in LAUNCH.glob("*.xml"):
        pairs = re.findall(r'<(?:set_)?remap\s+from="([^"]+)"\s+to="([^"]+)"', file.read_text("utf-8"))
        found += [re.sub(r"\$\(var \w+\)", "*", after) for before, after in pairs if before == name]
    return [each if each.startswith("/") else arm + each for each in found for arm in ARMS]


def test_the_endpoints_are_seen_that_are_there() -> None:
    assert (Access.PUBLISH, "target_pose") in {each[1:] for each in done("arm_controller")}
    assert (Access.PUBLISH, "forward_position_controller/commands") in {each[1:] for each in done("driver")}
    assert (Access.REPLY, "plan_motion") in {each[1:] for each in done("planner")}, "of a constant in another module"
    assert len({module for modules_ in executables().values() for module in modules_ if endpoints(module)}) > 40


@pytest.mark.parametrize("executable", sorted(executables().keys() - NO_NODE))
def test_what_a_node_does_has_a_line(executable: str) -> None:
    assert f"/{executable}" in enclaves(), "expected an enclave in config/security/policy.xml"
    enclave = enclaves()[f"/{executable}"]
    missing = []
    for place, access, name in done(executable):
        assert name.strip("*"), f"{place}: a name that the source does not say: add what it can be to NAMES"
        if not listed(enclave, access, name):
            missing.append(f"{place}: {access.value} {name}")
    assert not missing


@pytest.mark.parametrize("executable", sorted(executables().keys() - NO_NODE))
def test_every_line_is_of_something_that_the_node_does(executable: str) -> None:
    """Permissions that are left over are not noticed by anybody who runs a graph."""
    enclave = enclaves()[f"/{executable}"]
    possible = {(access, each) for _, access, name in done(executable) for each in renamed(name)}
    common = enclaves()["/tools"]
    surplus = [
        f"{access.value} {name}"
        for access in Access
        for name in getattr(enclave, access.value)
        if not is_standard(common, enclave, access, name)
        if not any(each is access and (fnmatchcase(name, said) or fnmatchcase(said, name)) for each, said in possible)
    ]
    assert not surplus


def is_standard(common: Enclave, enclave: Enclave, access: Access, name: str) -> bool:
    """Whether a name is of common/node.xml, which every node has."""
    if access is Access.REPLY:
        return name.rpartition("/")[0] in enclave.nodes
    return name in getattr(common, access.value) or name in {f"{arm}clock" for arm in ARMS}


def test_every_node_that_is_launched_has_its_enclave_and_profile() -> None:
    launched = set()
    for file in LAUNCH.glob("*.xml"):
        for tag in re.findall(r"<node\s[^>]*>", file.read_text("utf-8")):
            executable, name = (re.search(rf'\b{key}="([^"]+)"', tag) for key in ("exec", "name"))
            assert executable and name, tag
            assert executable[1] in NO_NODE or f'ros_args="--enclave /{executable[1]}"' in tag, f"{file.name}: {tag}"
            launched.add((executable[1], re.sub(r"\$\(var \w+\)", "*", name[1])))
    assert len(launched) > 25
    wrong = [
        f"{executable} as {name}"
        for executable, name in sorted(launched)
        if executable not in NO_NODE
        if f"/{executable}" not in enclaves()
        or not any(fnmatchcase(node, name) for node in enclaves()[f"/{executable}"].nodes)
    ]
    assert not wrong


BRIDGES = {"/mujoco_bridge", "/gym_bridge", "/emulated_arm"}
JUDGES = {"/reward", "/reward_classifier", "/reward_human", "/gym_bridge"}
PERSONS = {"/teleop", "/scripted_human", "/console", "/operator"}
LED = {"/actor", "/operator", "/script"}

LOW_LEVEL = {
    "target_pose": {"/arm_controller", "/driver"},
    "gripper_controller/commands": {"/arm_controller"},
    "joint_trajectory_controller/joint_trajectory": {"/arm_controller", "/driver"},
    "forward_position_controller/commands": {"/driver"},
    "cartesian_impedance_controller/equilibrium_pose": {"/driver"},
    "driver/target_pose": {"/arm_controller"},
    "driver/gripper_commands": {"/arm_controller"},
    "driver/joint_trajectory": {"/arm_controller"},
    "robot_joint_commands": {"/ros2_control_node"},  # of a ros2_control to its hardware
}
WRITERS = LOW_LEVEL | {
    "arm/state": {"/arm_controller"},
    "arm/executed": {"/arm_controller"},
    "arm/safety": {"/arm_controller"},
    "policy/action": LED,
    "teleop/action": PERSONS,
    "teleop/event": {"/teleop"},
    "joint_states": {"/driver", "/mock_hardware", "/mujoco_bridge", "/gym_bridge", "/ros2_control_node"},
    "driver/status": {"/driver"},
    "episode": LED,
    "reward": JUDGES,
    "truth": BRIDGES,
    "clock": {"/mujoco_bridge", "/gym_bridge"},
    "learner/policy": {"/learner", "/link"},
    "reward/label": set[str](),  # of a node or device of somebody's own
}
OF_ARMS = {*LOW_LEVEL, "arm/state", "arm/executed", "arm/safety", "policy/action", "joint_states", "driver/status"}
OF_ARMS -= {"robot_joint_commands"}


def who(access: Access, name: str) -> set[str]:
    """Enclaves that may do something with the name, in a graph of a namespace or without one."""
    return {
        enclave.path
        for enclave, place in product(enclaves().values(), ("/", "/cell/one"))
        if enclave.allows(access, f"{place.rstrip('/')}/{name}", place)
    }


@pytest.mark.parametrize("topic", WRITERS)
def test_who_may_write(topic: str) -> None:
    assert who(Access.PUBLISH, topic) == WRITERS[topic]
    for arm in ("left", "right") if topic in OF_ARMS else ():
        assert who(Access.PUBLISH, f"{arm}/{topic}") <= WRITERS[topic]


def test_who_may_move_the_arm_stop_it_and_release_it() -> None:
    for arm in ARMS:
        assert who(Access.REPLY, f"{arm}arm/estop") == {"/arm_controller"}
        assert who(Access.REPLY, f"{arm}arm/reset_estop") == {"/arm_controller"}
        assert who(Access.EXECUTE, f"{arm}arm/move_to") == {"/arm_controller"}
        assert who(Access.CALL, f"{arm}arm/move_to") == LED
        assert who(Access.REQUEST, f"{arm}arm/estop") >= {"/operator", "/tools"}
        assert who(Access.REQUEST, f"{arm}arm/reset_estop") <= {"/operator", "/console"}
        assert who(Access.CALL, f"{arm}gripper_controller/gripper_cmd") == {"/driver"}
        assert who(Access.CALL, f"{arm}joint_trajectory_controller/follow_joint_trajectory") == set()
        assert who(Access.REQUEST, f"{arm}driver/release") == {"/operator"}
    assert who(Access.REQUEST, "arm/estop") == {"/operator", "/tools", "/console"}
    assert who(Access.REQUEST, "arm/reset_estop") == {"/operator", "/console"}


def test_a_console_that_serl_serves_itself_may_do_what_the_node_may() -> None:
    """By ./serl console and ./serl train --console it is in the process of the command."""
    node, command = enclaves()["/console"], enclaves()["/operator"]
    missing = [
        f"{access.value} {name}"
        for access in Access
        for name in getattr(node, access.value)
        if not name.startswith("console/") and not command.allows(access, f"/{name.removeprefix('/')}")
    ]
    assert missing == ["publish /diagnostics"], "which the node's own process alone does"


def test_whoever_only_looks_changes_nothing() -> None:
    for path in ("/tools", "/raw_recorder", "/rviz2"):
        enclave = enclaves()[path]
        assert not enclave.execute + enclave.call
        assert not [name for name in enclave.request if "set_" in name or name.endswith("*")]
    written: Iterable[str] = enclaves()["/tools"].publish
    assert set(written) == {"/rosout", "/parameter_events"}
