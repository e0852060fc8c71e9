# SPDX-License-Identifier: Apache-2.0
"""Node `reward_classifier`: judges the pictures of the task's cameras with a trained classifier."""

import threading
import time
from collections import deque
from pathlib import Path

import numpy as np
from rclpy.node import Node
from serl_config.resources import find
from serl_rl.backends import load_classifier
from serl_ros.diagnostics import ERROR, OK, WARN, Diagnostics
from serl_ros.execution.executor import FastExecutor
from serl_ros.log import ERROR as LOG_ERROR
from serl_ros.log import log
from serl_ros.node import run_node
from serl_ros.parameters import declare
from serl_ros.qos import LATCHED, RELIABLE_10

from serl_interfaces.msg import EpisodeStatus, Reward
from serl_tasks import get_task, task_names
from serl_training.env.graph_cameras import CameraError, CameraInputs
from serl_training.graph_jax import use_one_core
from serl_training.link.contract import LEARNING, load_learning
from serl_training.reward.judging import PictureJudge, fill
from serl_training.reward.reward_frames import check_source, frame_source

_REPORT_PERIOD = 1.0  # [s]
_RATE_WINDOW = 200  # judgements


class ClassifierNode(Node):
    """Publishes `reward` for each set of pictures; a set that comes again gets its answer again."""

    def __init__(self) -> None:
        """Declare parameters, load and compile the classifier, connect; the learning settings say by which backend."""
        super().__init__("reward_classifier")
        task = get_task(declare(self, "task", "pick_cube_vision", "Task that is judged.", choices=task_names()))
        backend = load_learning(declare(self, "learning", "", LEARNING), task).backend
        path = declare(self, "classifier", "", "File of the classifier, made by ./serl reward train.")
        skew = declare(
            self, "max_skew", 0.0, "How far apart pictures may be that are judged together [s].", range=(0.0, 1.0)
        )
        self._max_age = declare(
            self, "max_age", 1.0, "Age from which a camera's picture counts as missing [s].", range=(0.01, 60.0)
        )
        if not path:
            raise ValueError("parameter 'classifier' of node 'reward_classifier': expected a file, found nothing")
        use_one_core(backend)
        classifier = load_classifier(Path(path), find, backend)
        info = classifier.info
        check_source(path, info.source, frame_source(task, info.source.stages))
        classifier.probabilities({name: np.zeros(view.shape, np.uint8) for name, view in info.source.views.items()})
        self._judge = PictureJudge(classifier.probabilities, info.thresholds, info.consecutive, round(skew * 1e9))
        self._message = Reward(source="classifier", task=task.name)
        self._times: deque[float] = deque(maxlen=_RATE_WINDOW)
        self._started = time.monotonic()
        self._reported = 0.0
        self._diagnostics = Diagnostics(self)
        self._diagnostics.set("cameras", WARN, "no picture yet")
        self._publisher = self.create_publisher(Reward, "reward", RELIABLE_10)
        # Before the cameras: of what is ready together, the new episode is heard before its first picture.
        self._episodes = self.create_subscription(EpisodeStatus, "episode", self._on_episode, LATCHED)
        self._cameras = CameraInputs(self, task.cameras, on_picture=self._on_picture)

    def run(self, executor: FastExecutor, stop: threading.Event) -> None:
        """Judge until `stop`."""
        self.get_logger().info("judging")
        while not stop.is_set():
            executor.spin_once(0.1)
            now = time.monotonic()
            if now - self._reported >= _REPORT_PERIOD:
                self._reported = now
                self._diagnose()

    def _on_episode(self, status: EpisodeStatus) -> None:
        if status.mode != EpisodeStatus.MODE_IDLE:
            self._judge.begin(status.episode)

    def _on_picture(self) -> None:
        try:
            judgement = self._judge.judge(self._cameras.stamps, self._cameras.pictures)
        except CameraError as error:
            self._diagnostics.set("cameras", ERROR, str(error))
            log(self, LOG_ERROR, error, throttle=5.0)
            return
        if judgement is None:
            return
        fill(self._message, judgement)
        self._publisher.publish(self._message)
        self._times.append(time.monotonic())

    def _diagnose(self) -> None:
        missing, odd = self._cameras.stale(self._max_age), self._cameras.problems()
        now = time.monotonic()
        recent = [then for then in self._times if then > now - 5.0]
        rate = (len(recent) - 1) / (recent[-1] - recent[0]) if len(recent) > 2 else 0.0
        age = f"{now - self._times[-1]:.1f} s" if self._times else "never"
        if missing:
            self._diagnostics.set("cameras", WARN, f"waits for {', '.join(missing)}", rate=f"{rate:.1f} Hz", newest=age)
        elif odd:
            message = f"judging by times of arrival: {', '.join(odd)}"
            self._diagnostics.set("cameras", WARN, message, rate=f"{rate:.1f} Hz", newest=age)
        else:
            self._diagnostics.set("cameras", OK, "judging", rate=f"{rate:.1f} Hz", newest=age)


def main() -> None:
    """Entry point."""
    run_node(ClassifierNode)
