# SPDX-License-Identifier: Apache-2.0
"""``./serl replay`` before anything moves: which recordings it takes, and who else may act."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

try:
    import rclpy
    from rcl_interfaces.msg import ParameterValue
    from rcl_interfaces.srv import GetParameters
    from rclpy.executors import SingleThreadedExecutor

    from serl_interfaces.msg import ActionCommand
except ImportError:
    pytest.skip("the workspace is not built", allow_module_level=True)

from serl_cli.app import main
from serl_cli.work import graph_replay
from serl_recording.episode import Episode, RecordingSpec, nominal_stamps
from serl_recording.registry import create_recording
from serl_rl.spec import TransitionSpec
from serl_training.env.episode import episode_seed
from serl_training.link.contract import meaning_of

from serl_tasks import get_task

STEPS = 4


def record(path, format_, actions):
    """A recording of pick_cube with an episode of each action."""
    task = get_task("pick_cube")
    found = TransitionSpec.from_spaces(task.observation_space, task.action_space)
    transitions = TransitionSpec(found.observation, found.action_dim, meaning=meaning_of(task))
    spec = RecordingSpec(transitions, 1.0 / task.control_period, task.name)
    rows = {
        name: np.zeros((STEPS + 1, *entry.shape), entry.dtype) for name, entry in spec.transitions.observation.items()
    }
    with create_recording(path, format_, spec) as writer:
        for number, action in enumerate(actions):
            writer.append(
                Episode(
                    observation=rows,
                    action=np.full((STEPS, found.action_dim), action, np.float32),
                    reward=np.zeros(STEPS, np.float32),
                    intervention=np.zeros(STEPS, np.bool_),
                    policy_version=np.zeros(STEPS, np.uint64),
                    stamp=nominal_stamps(STEPS + 1, spec.rate),
                    stamped=False,
                    terminated=False,
                    truncated=True,
                    success=False,
                    demonstration=True,
                    actor="actor",
                    number=number,
                )
            )
    return path


def test_every_action_is_looked_at_before_the_first_moves_anything(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("serl_cli.work.graph_replay.simulated", lambda *_, **__: pytest.fail("a graph was started"))
    pytest.importorskip("rosbags", reason="needs an MCAP bag: ./serl setup recordings")  # .serl takes no such action
    path = record(tmp_path / "bag", "mcap", [0.5, 0.5, 1.5])
    assert main(["replay", str(path), "pick_cube"]) == 1
    assert "episode 2 of actor, step 0: expected actions in [-1, 1], found 1.5" in " ".join(
        capsys.readouterr().err.split()
    )


class LateActor:
    """An arm controller as far as it is asked for parameters; an actor appears when it is asked for the last one."""

    def __init__(self, ros):
        self._ros = ros
        self._contexts = []
        self.controller = self._node("arm_controller", start_parameter_services=False)
        self.controller.create_service(GetParameters, "arm_controller/get_parameters", self._answer)
        self._executor = SingleThreadedExecutor(context=self.controller.context)
        self._executor.add_node(self.controller)
        self._thread = threading.Thread(target=self._executor.spin)
        self._thread.start()

    def _node(self, name, **options):
        context = rclpy.Context()
        rclpy.init(args=[], context=context)
        self._contexts.append(context)
        return rclpy.create_node(name, context=context, **options)

    def _answer(self, request, response):
        if request.names == ["task"]:
            response.values = [ParameterValue(type=4, string_value="pick_cube")]
        else:
            self.actor = self._node("late_actor", namespace="/elsewhere")
            self.actor.create_publisher(ActionCommand, "/policy/action", 1)
            response.values = [ParameterValue(type=1, bool_value=False)]
        return response

    def close(self):
        self._executor.shutdown()
        self._thread.join()
        for context in self._contexts:
            context.try_shutdown()


@pytest.mark.graph
def test_an_actor_that_is_discovered_late_is_refused_by_name(ros_domain, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("serl_cli.work.graph_replay.GraphEnv", lambda *_, **__: pytest.fail("the arm would be moved"))
    late = LateActor(ros_domain)
    try:
        assert main(["replay", str(record(tmp_path / "some.serl", "serl", [0.5])), "pick_cube", "--arm"]) == 1
    finally:
        late.close()
    said = " ".join(capsys.readouterr().err.split())
    assert "expected nobody else who acts, found /elsewhere/late_actor, publishing policy/action" in said


def test_a_run_begins_where_each_of_its_arms_did(tmp_path, monkeypatch):
    (tmp_path / "journal").mkdir()
    (tmp_path / "config.yaml").touch()
    monkeypatch.setattr(graph_replay, "read_run_config", lambda _run: SimpleNamespace(plan=SimpleNamespace(seed=7)))
    seed_of = graph_replay._start_seeds(tmp_path, None)
    for actor, demonstration, seed in (
        ("actor_0", True, episode_seed(7, "demonstration", 3)),
        ("arm_1", True, episode_seed(episode_seed(7, "demonstrations/arm_1", 0), "demonstration", 3)),
        ("arm_1", False, episode_seed(7, "training/arm_1", 3)),
    ):
        assert seed_of(SimpleNamespace(actor=actor, demonstration=demonstration, number=3)) == seed
