# SPDX-License-Identifier: Apache-2.0
"""A simulated world that blows up ends its episode, of which nothing is stored; the next one goes on from a reset."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import breaking_world
import numpy as np
import pytest
from serl_rl.storage.chunk import Chunk, decode_chunk, encode_chunk
from serl_rl.storage.journal import Journal, Record, read_journal

try:
    from control_msgs.action import FollowJointTrajectory, ParallelGripperCommand
    from rclpy.action import ActionClient
    from sensor_msgs.msg import JointState
    from serl_training.actor.rollout import ChunkFormat, run_episode
    from serl_training.env.episode import EpisodeMode, EpisodeStart, WorldBroken
    from serl_training.env.graph_env import GraphEnv
    from serl_training.link.contract import load_learning, transition_spec
    from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

    from serl_interfaces.srv import ResetWorld
except ImportError:
    pytest.skip("the workspace is not built", allow_module_level=True)

TASK = "route_cable"
FAULT = Path(breaking_world.__file__).parent


class Still:
    """Chooses the action that changes nothing."""

    def reset(self) -> None:
        """Nothing to forget."""

    def act(self, observation: dict, info: dict) -> tuple[np.ndarray, int]:
        """No motion, by no policy."""
        return info["rest_action"], 0


def start(processes: Any, module: str, *parameters: str) -> None:
    """Start a node whose worlds break."""
    paths = os.pathsep.join([str(FAULT), os.environ.get("PYTHONPATH", "")])
    program = f"import breaking_world; breaking_world.inject(); from {module} import main; main()"
    command = [sys.executable, "-c", program, "--ros-args", "-p", f"task:={TASK}"]
    processes.start(*command, *parameters, env={**os.environ, "PYTHONPATH": paths})


@pytest.fixture(params=[True, False], ids=["lockstep", "in real time"])
def env(request, processes) -> Iterator[GraphEnv]:
    lockstep = request.param
    start(processes, "serl_sim.mujoco_bridge_node", "-p", f"real_time_factor:={0.0 if lockstep else 5.0}")
    start(processes, "serl_robots.arm_controller_node", "-p", f"lockstep:={str(lockstep).lower()}")
    start(processes, "serl_training.reward_node")
    graph = GraphEnv(TASK, lockstep=lockstep, reset_timeout=30.0)
    yield graph
    graph.close()


def test_nothing_is_stored_of_an_episode_whose_world_breaks(env: GraphEnv, tmp_path: Path) -> None:
    spec = transition_spec(env.task, load_learning("", env.task), None)
    chunk_format = ChunkFormat(spec)
    with Journal(tmp_path / "journal", spec, sync_interval=None) as journal:
        sent = 0

        def store(chunk: Chunk) -> None:
            nonlocal sent
            journal.append(Record("actor", "session", sent, len(chunk), encode_chunk(chunk, spec)))
            sent += len(chunk)

        for number in (1, 2, 3, 4):
            seed = number % 2  # every other world breaks
            begin = EpisodeStart(EpisodeMode.TRAINING, number, seed)
            if seed:
                with pytest.raises(
                    WorldBroken, match=r"the simulation diverged; reset the world\. MuJoCo says: .*unstable"
                ):
                    run_episode(env, Still(), begin, chunk_format, on_chunk=store, whole=env.task.may_diverge)
            else:
                summary = run_episode(env, Still(), begin, chunk_format, on_chunk=store, whole=env.task.may_diverge)
                assert summary.length == env.task.horizon
    chunks = [decode_chunk(record.data, spec) for _, record in read_journal(tmp_path / "journal", spec)]
    assert {chunk.episode for chunk in chunks} == {2, 4}
    assert sum(len(chunk) for chunk in chunks) == 2 * env.task.horizon
    assert all(np.abs(chunk.observation["state"]).max() < 10.0 for chunk in chunks)


def test_a_goal_whose_world_breaks_ends_with_the_reason_and_so_does_one_of_a_broken_world(
    ros: Any, processes: Any
) -> None:
    start(processes, "serl_sim.mujoco_bridge_node")
    node = ros.node("client")
    states: list[JointState] = []
    node.create_subscription(JointState, "joint_states", states.append, 10)
    reset = node.create_client(ResetWorld, "sim/reset")
    follow = ActionClient(node, FollowJointTrajectory, "joint_trajectory_controller/follow_joint_trajectory")
    grip = ActionClient(node, ParallelGripperCommand, "gripper_controller/gripper_cmd")
    servers = (follow.server_is_ready, grip.server_is_ready, reset.service_is_ready)
    ros.spin_until(lambda: states and all(ready() for ready in servers), 30.0, "the bridge")
    done = reset.call_async(ResetWorld.Request(seed=1, episode=1))
    ros.spin_until(done.done, what="sim/reset")

    def ask(client: Any, goal: Any) -> Any:
        sending = client.send_goal_async(goal)
        ros.spin_until(sending.done, what="acceptance")
        ending = sending.result().get_result_async()
        ros.spin_until(ending.done, 20.0, "the end of a goal")
        return ending.result().result

    point = JointTrajectoryPoint(positions=list(states[-1].position[:7]))
    point.time_from_start.sec = 5
    trajectory = JointTrajectory(joint_names=states[-1].name[:7], points=[point])
    for _ in ("it breaks meanwhile", "it is broken"):
        result = ask(follow, FollowJointTrajectory.Goal(trajectory=trajectory))
        assert result.error_code == FollowJointTrajectory.Result.INVALID_GOAL
        assert result.error_string.startswith("the simulation diverged; reset the world. MuJoCo says:")
    result = ask(grip, ParallelGripperCommand.Goal(command=JointState(position=[0.01])))
    assert (result.reached_goal, result.stalled) == (False, False)
