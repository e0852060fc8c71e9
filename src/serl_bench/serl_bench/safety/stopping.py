# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of what keeps the arm safe: how soon an e-stop holds it, and what the commands amount to."""

import itertools
import math
import os
import random
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from numpy.typing import NDArray
from rclpy.action import ActionClient
from sensor_msgs.msg import JointState
from serl_launch.clients.client_node import Client
from serl_launch.errors import CommandError
from serl_launch.language.packages import find_executable
from serl_robots.benchmarks.storm import storm
from serl_robots.model.robot import load_robot
from serl_ros.qos import LATCHED, RELIABLE_10
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from serl_bench.benchmark import Bench, Measurement
from serl_bench.peer_processes import start, stop
from serl_interfaces.action import MoveTo
from serl_interfaces.msg import SafetyStatus
from serl_launch import domain
from serl_tasks import get_task

TASK = "pick_cube"
STOPS = 200
EVENTS = 1_000_000
START_TIMEOUT = 20.0  # [s]
AFTERWARDS = 0.6  # [s] for which commands are watched after a stop
SLACK = 1e-9  # [m] or [rad] that are no motion


@dataclass
class Commands:
    """Every command to the arm, as seen on the topics of the low level: local time and numbers."""

    times: list[float] = field(default_factory=list)
    values: list[tuple[str, NDArray[np.float64]]] = field(default_factory=list)
    """Kind of each command and its numbers, (3,) of a pose, (n,) else."""

    def listen(self, node: Any) -> list[Any]:
        """Subscribe."""

        def on_pose(message: PoseStamped) -> None:
            p = message.pose.position
            self._take("pose", np.array([p.x, p.y, p.z]))

        def on_joints(message: JointTrajectory) -> None:
            self._take("joints", np.array(message.points[0].positions))

        topic = "joint_trajectory_controller/joint_trajectory"
        return [
            node.create_subscription(PoseStamped, "target_pose", on_pose, RELIABLE_10),
            node.create_subscription(JointTrajectory, topic, on_joints, RELIABLE_10),
        ]

    def _take(self, kind: str, values: NDArray[np.float64]) -> None:
        self.times.append(time.monotonic())
        self.values.append((kind, values))

    @property
    def moves(self) -> bool:
        """Whether the newest command moved what is commanded."""
        return len(self.values) > 1 and self._motion(len(self.values) - 1) > SLACK

    def held_after(self, moment: float) -> float:
        """Seconds from `moment` to the first command after which nothing but braking is commanded; infinite if none."""
        later = next((index for index, at in enumerate(self.times) if at >= moment), len(self.times))
        motions = [self._motion(index) for index in range(len(self.values))]
        if later == len(motions) or motions[-1] > SLACK:
            return math.inf
        index = len(motions) - 1
        # back to where motion was last as large as before, or larger
        while index > later and (motions[index - 1] > motions[index] + SLACK or motions[index - 1] <= SLACK):
            index -= 1
        if index > later and motions[index] > SLACK:
            index += 1  # this one went on as before; the next one braked
        return self.times[index] - moment

    def _motion(self, index: int) -> float:
        if index == 0 or self.values[index][0] != self.values[index - 1][0]:
            return 0.0
        return float(np.linalg.norm(self.values[index][1] - self.values[index - 1][1]))


def peer(role: str) -> list[str]:
    """The command of a process that surrounds the arm controller; see `arm_peers_node`."""
    return [sys.executable, "-m", "serl_bench.safety.arm_peers_node", role]


class Arm:
    """An arm controller with peers around it, and us."""

    def __init__(self, client: Client, peers: ExitStack) -> None:
        self.client, self._peers = client, peers
        self.commands = Commands()
        self.safety: list[SafetyStatus] = []
        node = client.node
        self._kept = [
            *self.commands.listen(node),
            node.create_subscription(SafetyStatus, "arm/safety", self.safety.append, LATCHED),
        ]
        self.estop = node.create_client(SetBool, "arm/estop")
        self.mover = ActionClient(node, MoveTo, "arm/move_to")
        self.body: subprocess.Popen[bytes]

    def wait(self, condition: Callable[[], object], what: str, timeout: float = START_TIMEOUT) -> None:
        """Handle messages until something is so."""
        if not self.client.spin_until(lambda: bool(condition()), timeout):
            raise CommandError(f"the arm controller did not get so far: {what}")

    def watch(self, seconds: float) -> None:
        """Handle messages for a while."""
        self.client.spin_until(lambda: False, seconds)

    def start(self, role: str) -> subprocess.Popen[bytes]:
        """A peer that lasts as long as the arm, unless it is killed."""
        return self.run(peer(role))

    def run(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """A process that lasts as long as the arm, unless it is killed."""
        process = start(command)
        self._peers.callback(_end, process)
        return process

    def release(self) -> None:
        """Release a stop."""
        self.client.call(Trigger, "arm/reset_estop", Trigger.Request())
        self.wait(lambda: self.safety and not self.safety[-1].estop, "released")


@contextmanager
def an_arm(name: str, *, lockstep: bool = False, task: str = TASK, has_body: bool = True) -> Iterator[Arm]:
    """An arm controller of its own; without a body somebody else says where the arm is."""
    controller = str(find_executable("serl_robots", "arm_controller", os.environ))
    parameters = ["-p", f"task:={task}", "-p", f"lockstep:={str(lockstep).lower()}"]
    with domain.claim(name), ExitStack() as peers:
        process = start([controller, "--ros-args", *parameters])
        peers.callback(lambda: stop(process))
        with Client() as client:
            arm = Arm(client, peers)
            try:
                if has_body:
                    arm.body = arm.start("body-lockstep" if lockstep else "body")
                arm.wait(lambda: arm.safety, "its first message on arm/safety")
                arm.wait(arm.estop.service_is_ready, "arm/estop")
                yield arm
                if process.poll() is not None:
                    raise CommandError(f"the arm controller ended by itself with {process.returncode}")
            finally:
                arm.mover.destroy()


def estop_ms(bench: Bench) -> Measurement:
    """Milliseconds from the call of arm/estop until the arm is commanded to hold, 99th percentile."""
    rng = random.Random(0)
    times: dict[str, list[float]] = {}
    leaders: list[subprocess.Popen[bytes]] = []

    def stop_in(arm: Arm, state: str) -> None:
        arm.watch(rng.uniform(0.05, 0.25))
        called = time.monotonic()
        future = arm.estop.call_async(SetBool.Request(data=True))
        arm.wait(future.done, "the answer of arm/estop")
        arm.watch(AFTERWARDS)
        times.setdefault(state, []).append(1e3 * arm.commands.held_after(called))

    def moving(goal: MoveTo.Goal) -> Callable[[Arm], None]:
        def begin(arm: Arm) -> None:
            arm.mover.send_goal_async(goal)
            arm.wait(lambda: arm.safety[-1].mode == SafetyStatus.MODE_MOVE_TO, "a motion")

        return begin

    def led(role: str, mode: int) -> Callable[[Arm], None]:
        def begin(arm: Arm) -> None:
            leaders.append(arm.start(role))
            wait_led(arm, mode, role)

        return begin

    def stopped(arm: Arm) -> None:
        arm.client.call(SetBool, "arm/estop", SetBool.Request(data=True))
        arm.release()

    there, back = _pose_goal(0.45), _pose_goal(0.55)
    left, right = _joint_goal(0.2), _joint_goal(-0.2)
    states: dict[str, Callable[[Arm, int], object]] = {
        "idle": lambda _arm, _round: None,
        "released": lambda arm, _round: stopped(arm),
        "move_to_pose": lambda arm, number: moving((there, back)[number % 2])(arm),
        "move_to_joints": lambda arm, number: moving((left, right)[number % 2])(arm),
        "policy": lambda arm, _round: led("policy", SafetyStatus.MODE_POLICY)(arm),
        "person": lambda arm, _round: led("device", SafetyStatus.MODE_HUMAN)(arm),
    }
    each = -(-STOPS // (len(states) + 1))
    with an_arm("bench estop") as arm:
        arm.start("flood")
        for state, begin in states.items():
            bench.say(f"{each} stops: {state}")
            for number in range(each):
                if not leaders:
                    begin(arm, number)
                elif not arm.commands.moves:
                    arm.wait(lambda: arm.commands.moves, f"{state} leads again")
                stop_in(arm, state)
                arm.release()
            while leaders:
                stop(leaders.pop())
    with an_arm("bench estop lockstep", lockstep=True) as arm:
        bench.say(f"{each} stops: policy in lockstep")
        arm.start("policy")
        for _ in range(each):
            arm.wait(lambda: arm.commands.moves, "the policy leads")
            stop_in(arm, "lockstep")
            arm.release()
    every = sorted(itertools.chain.from_iterable(times.values()))
    value = every[min(len(every) - 1, math.ceil(0.99 * len(every)) - 1)]
    worst = {state: round(max(found), 1) for state, found in times.items()}
    spread = f"{len(every)} stops; median {every[len(every) // 2]:.0f}, largest {every[-1]:.0f}"
    return Measurement(value, spread, {"largest": worst})


def wait_led(arm: Arm, mode: int, role: str) -> None:
    """Wait until somebody leads the arm, which moves."""
    arm.wait(lambda: arm.safety[-1].mode == mode and arm.commands.moves, f"{role} leads")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        stop(process)


def acceleration_ratio(bench: Bench) -> Measurement:
    """Largest commanded acceleration, of tool or joints, over its limit, in a storm of random events."""
    ratios = storm(load_robot(get_task(TASK).robot), EVENTS, seed=0)
    details = {
        "tool_acceleration": ratios.acceleration,
        "joint_acceleration": ratios.joint_acceleration,
        "speed": ratios.speed,
        "joint_speed": ratios.joint_speed,
        "gripper_speed": ratios.gripper_speed,
        "outside_m": ratios.outside,
        "commands": ratios.commands,
        "events": ratios.events,
        "where": ratios.where,
    }
    spread = (
        f"{ratios.commands:,} commands in {ratios.events:,} events; speed {max(ratios.speed, ratios.joint_speed):.7f}"
    )
    return Measurement(max(ratios.acceleration, ratios.joint_acceleration), spread, details)


def _pose_goal(x: float) -> MoveTo.Goal:
    pose = PoseStamped()
    pose.header.frame_id = load_robot(get_task(TASK).robot).base_frame
    pose.pose.position.x, pose.pose.position.y, pose.pose.position.z = x, 0.0, 0.2
    pose.pose.orientation.x, pose.pose.orientation.w = 1.0, 0.0
    return MoveTo.Goal(kind=MoveTo.Goal.KIND_POSE, pose=pose, velocity_scaling=0.2)


def _joint_goal(turned: float) -> MoveTo.Goal:
    robot = load_robot(get_task(TASK).robot)
    base, *others = robot.configuration("home")
    joints = JointState(name=list(robot.arm_joints), position=array("d", [base + turned, *others]))
    return MoveTo.Goal(kind=MoveTo.Goal.KIND_JOINTS, joints=joints, velocity_scaling=0.2)
