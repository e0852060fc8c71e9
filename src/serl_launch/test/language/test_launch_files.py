# SPDX-License-Identifier: Apache-2.0
"""The launch files of this workspace: what they start, and that the nodes know what they are given."""

import re
from pathlib import Path

import pytest
import yaml
from planned_graphs import ROOT, installed, parameters, plan
from serl_launch.language.arguments import declared_arguments, show_args
from serl_launch.language.errors import LaunchError

SIM = ROOT / "launch/sim.launch.xml"
RVIZ = ROOT / "launch/rviz.launch.xml"
REAL = ROOT / "launch/real.launch.xml"
LEARNER = ROOT / "launch/learner.launch.xml"
SIDES = ("all", "robot", "learner")
EXECUTABLES = {
    "serl_sim": ["mujoco_bridge", "emulated_arm"],
    "serl_drivers": ["driver", "emulator", "mock_hardware"],
    "serl_cameras": ["camera"],
    "serl_planning": ["planner"],
    "serl_robots": ["arm_controller"],
    "serl_teleop": ["scripted_human", "teleop", "console"],
    "serl_training": ["reward", "actor", "learner", "reward_human"],
    "serl_bringup": [],
    "rviz2": ["rviz2"],
}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return installed(tmp_path, EXECUTABLES)


@pytest.mark.parametrize("task", ["pick_cube", "pick_cube_so101"])
def test_a_robot_takes_its_version_of_the_task(task: str, environment: dict[str, str]) -> None:
    made = parameters(plan(SIM, environment, task=task, robot="so101"))
    tasks = {values["task"] for values in made.values() if "task" in values}
    assert tasks == {"pick_cube_so101"}


def test_the_whole_graph(environment: dict[str, str], tmp_path: Path) -> None:
    made = plan(SIM, environment)
    assert parameters(made) == {
        "/mujoco_bridge": {
            "task": "pick_cube_vision",
            "seed": 0,
            "real_time_factor": 0.0,
            "headless": True,
            "publish_robot_state": True,
        },
        "/arm_controller": {
            "task": "pick_cube_vision",
            "scene": "",
            "lockstep": True,
            "planned_motions": False,
        },
        "/reward": {"task": "pick_cube_vision"},
        "/scripted_human": {"task": "pick_cube_vision", "seed": 0, "interventions": False},
        "/learner": {
            "task": "pick_cube_vision",
            "learning": "",
            "simulated": True,
            "run_dir": "runs/launch",
            "graph_id": "",
            "seed": 0,
            "prior": "",
        },
        "/actor": {
            "actor_id": "actor_0",
            "task": "pick_cube_vision",
            "partner": "",
            "learning": "",
            "simulated": True,
            "seed": 0,
            "graph_id": "",
            "lockstep": True,
            "reset": "simulator",
            "scripted_human": True,
            "interventions": False,
            "demonstration_pictures": "jpeg",
            "policy": "",
            "mapping": "",
            "trainer": "",
            "learner_away": "go_on",
            "learner_timeout": 5.0,
        },
    }
    reward = next(process for process in made.processes if process.node == "/reward")
    assert reward.command == (
        *(f"{tmp_path}/lib/serl_training/reward", "--ros-args", "--enclave", "/reward"),
        *("--ros-args", "-r", "__node:=reward", "-r", "__ns:=/"),
        *("-p", "use_sim_time:=True", "--params-file", "/log/reward-3-0.yaml", "-r", "/clock:=/clock"),
    )


def test_every_node_uses_the_time_of_the_simulation(environment: dict[str, str]) -> None:
    for process in plan(SIM, environment).processes:
        assert "use_sim_time:=True" in process.command


def test_only_what_cannot_be_restored_ends_the_graph(environment: dict[str, str]) -> None:
    processes = plan(SIM, environment).processes
    assert {process.node for process in processes if process.required} == {"/mujoco_bridge", "/arm_controller"}
    assert all(process.required != process.respawn for process in processes)


def test_a_namespace_holds_the_whole_graph(environment: dict[str, str]) -> None:
    found = parameters(plan(SIM, environment, namespace="left"))
    assert all(name.startswith("/left/") for name in found)
    assert found["/left/learner"]["run_dir"] == "runs/left"


def test_running_in_time_is_no_lockstep(environment: dict[str, str]) -> None:
    for factor, lockstep in (("0", True), ("0.0", True), ("1", False), ("0.5", False)):
        found = parameters(plan(SIM, environment, real_time_factor=factor))
        assert found["/mujoco_bridge"]["real_time_factor"] == float(factor)
        assert found["/arm_controller"]["lockstep"] is found["/actor"]["lockstep"] is lockstep


def test_the_console_is_a_node_of_the_graph_when_it_is_asked_for(environment: dict[str, str]) -> None:
    assert "/console" not in parameters(plan(SIM, environment))
    found = parameters(plan(SIM, environment, console="true", console_port="0", namespace="left"))
    assert found["/left/console"] == {"task": "pick_cube_vision", "port": 0}


def test_parts_can_be_left_out(environment: dict[str, str]) -> None:
    found = parameters(plan(SIM, environment, teleop="none", reward="none"))
    assert found.keys() == {"/mujoco_bridge", "/arm_controller", "/learner", "/actor"}
    assert found["/actor"]["scripted_human"] is False
    assert parameters(plan(SIM, environment, learning_nodes="false")).keys() == {
        *("/mujoco_bridge", "/arm_controller", "/reward", "/scripted_human"),
    }


def test_the_learning_side_alone_is_what_the_whole_graph_lacks_without_it(environment: dict[str, str]) -> None:
    arguments = {"namespace": "left", "run_dir": "there", "seed": "3", "learning": "fast", "graph_id": "a"}
    whole = parameters(plan(SIM, environment, **arguments))
    rest = parameters(plan(SIM, environment, **arguments, learner="false"))
    (process,) = plan(LEARNER, environment, **arguments, use_sim_time="true").processes
    alone = parameters(plan(LEARNER, environment, **arguments, use_sim_time="true"))
    assert alone["/left/learner"].pop("use_sim_time") is True
    assert rest | alone == whole and rest.keys().isdisjoint(alone)
    assert process.respawn and "/clock:=clock" in process.command


@pytest.mark.parametrize(
    ("file", "more"),
    [
        (SIM, {}),
        (SIM, {"task": "relocate_forward", "partner": "relocate_backward"}),
        (REAL, {"robot": "so101", "port": "/dev/ttyACM0", "reward": "human"}),
        (REAL, {"robot": "so101", "hardware": "emulated"}),
    ],
)
def test_two_sides_are_the_whole_graph(environment: dict[str, str], file: Path, more: dict[str, str]) -> None:
    arguments = {"task": "pick_cube", "namespace": "left", "run_dir": "there", "seed": "3", "graph_id": "a", **more}
    whole, robot, learner = (parameters(plan(file, environment, **arguments, side=side)) for side in SIDES)
    assert robot.keys().isdisjoint(learner) and robot and all("learner" in name for name in learner)
    for values in learner.values():
        assert values.pop("use_sim_time") is False  # the world's time does not cross the network
    for name in whole.keys() & learner.keys():
        whole[name].pop("use_sim_time", None)
    assert robot | learner == whole


def test_what_an_actor_does_without_its_learner_is_chosen(environment: dict[str, str]) -> None:
    for file in (SIM, REAL):
        made = plan(
            file, environment, task="pick_cube", side="robot", reward="none", learner_away="hold", learner_timeout="2"
        )
        actor = parameters(made)["/actor"]
        assert (actor["learner_away"], actor["learner_timeout"]) == ("hold", 2.0)


def test_a_trainer_of_serl_takes_the_place_of_the_learner(environment: dict[str, str]) -> None:
    for file in (SIM, REAL):
        made = parameters(plan(file, environment, task="pick_cube", reward="none", trainer="agentlace://10.0.0.2:5588"))
        assert made["/actor"]["trainer"] == "agentlace://10.0.0.2:5588"
        assert "/learner" not in made


def test_a_partner_has_a_judge_a_person_and_a_learner_of_its_own(environment: dict[str, str]) -> None:
    made = plan(SIM, environment, task="relocate_forward", partner="relocate_backward", run_dir="there")
    found = parameters(made)
    assert found.keys() == {
        *("/mujoco_bridge", "/arm_controller", "/actor", "/reward", "/scripted_human"),
        *("/reward_of_relocate_backward", "/scripted_human_of_relocate_backward"),
        *("/learner_of_relocate_forward", "/learner_of_relocate_backward"),
    }
    assert found["/actor"]["partner"] == "relocate_backward"
    for task in ("relocate_forward", "relocate_backward"):
        learner = next(process for process in made.processes if process.node == f"/learner_of_{task}")
        assert found[learner.node] | {"task": task, "run_dir": f"there/{task}"} == found[learner.node]
        for topic in ("learner/insert", "learner/policy", "metrics"):
            assert f"{topic}:={task}/{topic}" in learner.command


def test_each_of_a_pair_is_judged_by_a_classifier_of_its_own(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "lib/serl_training/reward_classifier").touch(mode=0o755)
    pair = {"task": "relocate_forward", "partner": "relocate_backward"}
    files = {"classifier": "there.safetensors", "partner_classifier": "back.safetensors"}
    found = parameters(plan(SIM, environment, **pair, **files, reward="classifier"))
    judges = {node: values for node, values in found.items() if node.startswith("/reward")}
    assert judges == {
        "/reward_classifier": {"task": "relocate_forward", "learning": "", "classifier": "there.safetensors"},
        "/reward_classifier_of_relocate_backward": {
            "task": "relocate_backward",
            "learning": "",
            "classifier": "back.safetensors",
        },
    }


def test_a_world_of_others_and_its_person_run_in_the_python_that_has_it(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "lib/serl_sim/gym_bridge").touch(mode=0o755)
    made = plan(SIM, environment, task="gym-hil-pick-cube", world="gym", gym_python="/there/bin/python")
    theirs = {process.node for process in made.processes if process.command[0] == "/there/bin/python"}
    assert theirs == {"/gym_bridge", "/scripted_human"}
    assert "/mujoco_bridge" not in parameters(made) and "/reward" not in parameters(made)


@pytest.mark.parametrize(
    ("arguments", "simulated"),
    [({}, False), ({"use_sim_time": "true"}, True), ({"simulated": "true"}, True), ({"use_sim_time": "false"}, False)],
)
def test_a_learner_alone_is_told_whether_cameras_are_simulated(
    environment: dict[str, str], arguments: dict[str, str], simulated: bool
) -> None:
    assert parameters(plan(LEARNER, environment, **arguments))["/learner"]["simulated"] is simulated


def test_a_text_that_looks_like_a_number_stays_a_text(environment: dict[str, str]) -> None:
    found = parameters(plan(SIM, environment, task="1", learning="2.5", run_dir="3", seed="4"))
    texts = {"task": "1", "learning": "2.5", "run_dir": "3", "graph_id": "", "prior": ""}
    assert found["/learner"] == {**texts, "simulated": True, "seed": 4}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"teleop": "wand"},
            "argument 'teleop': expected one of scripted, spacemouse, gamepad, joy, twist, leader, joint_leader, none, "
            "found 'wand'",
        ),
        ({"headless": "no"}, "argument 'headless': expected one of true, false"),
        ({"seed": "one"}, "expected int, found 'one'"),
        ({"real_time_factor": "fast"}, "expected float, found 'fast'"),
        ({"namespace": "left arm"}, "'/left arm' is not a valid namespace"),
        ({"tsk": "pick_cube"}, "no argument 'tsk', did you mean 'task'"),
        ({"robot_state_publisher": "true"}, r"\$\(command ...\) is not supported"),
    ],
)
def test_wrong_arguments(environment: dict[str, str], arguments: dict[str, str], message: str) -> None:
    with pytest.raises(LaunchError, match=message):
        plan(SIM, environment, **arguments)


def test_rviz_gets_its_configuration_and_namespace(environment: dict[str, str], tmp_path: Path) -> None:
    (process,) = plan(RVIZ, environment, namespace="left").processes
    assert process.command[:3] == (
        *(f"{tmp_path}/lib/rviz2/rviz2", "-d"),
        f"{tmp_path}/share/serl_bringup/config/rviz/serl.rviz",
    )
    assert process.node == "/left/rviz"
    assert process.command[3:5] == ("-f", "left/world")
    (process,) = plan(RVIZ, environment).processes
    assert process.command[3:5] == ("-f", "world")


def test_rviz_shows_what_bridge_and_arm_controller_publish() -> None:
    manager = yaml.safe_load((ROOT / "config/rviz/serl.rviz").read_text())["Visualization Manager"]
    assert manager["Global Options"]["Fixed Frame"] == "world"
    topics = {
        display["Class"].partition("/")[2]: display.get("Topic", display.get("Description Topic", {})).get("Value")
        for display in manager["Displays"]
    }
    assert topics["RobotModel"] == "robot_description"
    arrays = [each["Topic"]["Value"] for each in manager["Displays"] if each["Class"].endswith("/MarkerArray")]
    assert arrays == ["arm/markers", "left/arm/markers", "right/arm/markers", "markers"]
    images = [display["Topic"]["Value"] for display in manager["Displays"] if display["Class"].endswith("/Image")]
    assert images == ["front/color/image_raw", "wrist/color/image_raw"]


@pytest.mark.parametrize("file", [SIM, RVIZ, LEARNER, REAL])
def test_every_argument_is_described_and_closed_sets_have_choices(file: Path, environment: dict[str, str]) -> None:
    for argument in declared_arguments(file, environment):
        assert argument.description, argument.name
        assert argument.default not in ("true", "false") or argument.choices == ("true", "false")
        assert f"'{argument.name}':" in show_args(file, environment)


def test_every_program_is_installed_by_its_package() -> None:
    for package in ("serl_sim", "serl_planning", "serl_robots", "serl_drivers", "serl_teleop", "serl_training"):
        setup = (ROOT / "src" / package / "setup.py").read_text()
        for name in EXECUTABLES[package]:
            assert f'"{name} = serl_ros.console:{package}.' in setup


def test_every_parameter_is_declared_by_its_node(environment: dict[str, str]) -> None:
    packages = {name: package for package, names in EXECUTABLES.items() for name in names}
    for node, values in parameters(plan(SIM, environment)).items():
        name = node.removeprefix("/")
        folder = ROOT / "src" / packages[name] / packages[name]
        source = (folder / f"{name}_node.py").read_text()
        # what it declares, and what the modules of its package declare for it that it imports by name
        sources, read = [source], {name}
        for text in sources:
            for part in re.findall(rf"^from {packages[name]}\.(\w+) import", text, re.MULTILINE):
                if part not in read:
                    read.add(part)
                    sources.append((folder / f"{part}.py").read_text())
        declared = {name for text in sources for name in re.findall(r'declare\(\s*(?:self|node),\s*"(\w+)"', text)}
        assert values.keys() <= declared, f"{node} does not declare {values.keys() - declared}"


@pytest.mark.parametrize("file", [SIM, REAL])
def test_a_planner_plans_for_the_arm_controller_round_the_same_scene(file: Path, environment: dict[str, str]) -> None:
    options = {"task": "pick_cube", "reward": "human"}
    made = parameters(plan(file, environment, planner="ompl", scene="table", **options))
    assert made["/planner"] == {"task": "pick_cube", "scene": "table", "planner": "ompl"}
    assert made["/arm_controller"]["planned_motions"] is True and made["/arm_controller"]["scene"] == "table"
    assert "/planner" not in parameters(plan(file, environment, **options))


def test_the_graph_around_a_real_arm(environment: dict[str, str]) -> None:
    made = parameters(plan(REAL, environment, task="pick_cube", robot="so101", port="/dev/ttyACM0", reward="human"))
    assert made["/driver"] == {
        "task": "pick_cube_so101",
        "scene": "",
        "driver": "so101",
        "port": "/dev/ttyACM0",
        "calibration": "",
        "low_level": "",
    }
    assert made["/arm_controller"] == {
        "task": "pick_cube_so101",
        "arm": "",
        "scene": "",
        "lockstep": False,
        "planned_motions": False,
    }
    assert {"/front", "/wrist", "/teleop", "/console", "/reward_human", "/learner"} < set(made)
    assert "/scripted_human" not in made and "/emulated_arm" not in made
    actor = made["/actor"]
    assert (actor["truth"], actor["reset"], actor["scripted_human"], actor["simulated"]) == (
        False,
        "person",
        False,
        False,
    )


def test_two_real_arms_have_a_driver_and_a_controller_each(environment: dict[str, str]) -> None:
    ports = {"left_port": "192.168.1.2", "right_port": "192.168.1.3"}
    task = {"task": "lift_bar", "robot": "trossen", "arms": "two"}
    made = parameters(plan(REAL, environment, **task, namespace="cell", reward="human", **ports))
    for arm in ("left", "right"):
        driver, controller = made[f"/cell/{arm}/driver"], made[f"/cell/{arm}/arm_controller"]
        assert (driver["task"], driver["driver"]) == ("lift_bar_trossen", "trossen")
        assert driver["port"] == ports[f"{arm}_port"]
        assert (controller["task"], controller["arm"]) == ("lift_bar_trossen", arm)
    assert not {"/cell/driver", "/cell/arm_controller", "/cell/planner"} & set(made)
    assert {"/cell/actor", "/cell/learner"} < set(made)
    emulated = plan(REAL, environment, **task, hardware="emulated", **ports)
    made = parameters(emulated)
    assert made["/emulated_arm"]["moved_by"] == "joint_states"
    assert {"/left/emulator", "/right/emulator"} <= set(made)
    assert made["/left/driver"]["driver"] == "trossen_emulated"
    made = parameters(plan(REAL, environment, task="lift_bar", arms="two", hardware="emulated", driver="mock"))
    assert made["/right/driver"]["driver"] == "mock" and "/right/emulator" not in made


def test_an_emulated_arm_is_behind_the_port_of_the_driver(environment: dict[str, str]) -> None:
    made = parameters(plan(REAL, environment, task="pick_cube", robot="so101", hardware="emulated", run_dir="r"))
    assert made["/emulated_arm"]["folder"] == "r/bench"
    assert (made["/driver"]["port"], made["/driver"]["calibration"]) == ("r/bench/follower", "r/bench/follower.json")
    assert (made["/actor"]["truth"], made["/actor"]["reset"]) == (True, "motion")
    assert "/front" not in made and "/scripted_human" in made and "/reward" in made


def test_an_arm_of_others_has_its_vendors_emulator_and_the_bench_goes_along(environment: dict[str, str]) -> None:
    made = plan(REAL, environment, task="pick_cube", robot="trossen", hardware="emulated", port="127.0.0.7")
    values = parameters(made)
    assert (values["/driver"]["driver"], values["/driver"]["port"]) == ("trossen_emulated", "127.0.0.7")
    assert values["/emulated_arm"]["moved_by"] == "joint_states"
    emulator = next(each for each in made.processes if each.node == "/emulator")
    assert emulator.command[1:3] == ("trossen_emulated", "127.0.0.7") and emulator.respawn
    made = plan(REAL, environment, task="pick_cube", robot="so101", hardware="emulated")
    assert parameters(made)["/emulated_arm"]["moved_by"] == "servos"
    assert "/emulator" not in {each.node for each in made.processes}


def test_without_a_robot_the_arm_is_a_mock_and_ros2_control_needs_no_driver(environment: dict[str, str]) -> None:
    assert parameters(plan(REAL, environment, reward="human"))["/driver"]["driver"] == "mock"
    assert "/driver" not in parameters(plan(REAL, environment, driver="none", reward="human"))


INSIDE = ("target_pose:=driver/target_pose", "joint_trajectory_controller/joint_trajectory:=driver/joint_trajectory")


def test_controllers_have_one_commander_which_is_told_by_other_names(environment: dict[str, str]) -> None:
    made = plan(REAL, environment, task="pick_cube", hardware="mock", low_level="forward_position", reward="human")
    found = parameters(made)
    assert found["/driver"]["driver"] == "ros2_control" and found["/driver"]["low_level"] == "forward_position"
    commands = {process.node: process.command for process in made.processes}
    for name in INSIDE:
        assert name in commands["/arm_controller"] and name in commands["/driver"]
        assert name not in commands["/mock_hardware"]
    for arguments in ({"driver": "mock"}, {"driver": "none"}, {"robot": "so101"}):
        for process in plan(REAL, environment, reward="human", **arguments).processes:
            assert not {*INSIDE} & {*process.command}


@pytest.mark.parametrize("hardware", ["mock_components", "topic_based"])
def test_ros2_control_itself_needs_a_native_ros(environment: dict[str, str], hardware: str) -> None:
    with pytest.raises(LaunchError, match=r"command .*is not supported; it runs a program: use `ros2 launch`"):
        plan(REAL, environment, task="pick_cube", hardware=hardware, reward="human")


def test_a_driver_that_ends_comes_back_and_the_filter_does_not(environment: dict[str, str]) -> None:
    processes = {each.node: each for each in plan(REAL, environment, reward="human").processes}
    assert processes["/driver"].respawn and processes["/arm_controller"].required
