# SPDX-License-Identifier: Apache-2.0
"""A robot of LeRobot that is a running graph: everything sent to it goes through the graph's safety filter."""

from functools import cached_property
from typing import Any

from lerobot.robots import Robot

from serl_lerobot.graph_arm import GraphArm, GraphPlace, action_features, observation_features
from serl_lerobot.plugins.config_robot import SerlRobotConfig


class SerlRobot(Robot):
    """See `lerobot.robots.Robot`. Numbers and pictures are those of the task's observation and action."""

    config_class = SerlRobotConfig
    name = "serl"

    def __init__(self, config: SerlRobotConfig) -> None:
        """Name the graph; raises ValueError where it has no such task."""
        super().__init__(config)
        self.config = config
        self._arm: GraphArm | None = None

    @cached_property
    def observation_features(self) -> dict[str, Any]:
        """`state_0` and so on of the task's state vector, and its cameras."""
        return observation_features(self.config.task)

    @cached_property
    def action_features(self) -> dict[str, Any]:
        """Components of the task's action, each in [-1, 1]."""
        return action_features(self.config.task)

    @property
    def cameras(self) -> dict[str, Any]:
        """Names of the cameras, of which LeRobot wants to know how many there are."""
        return {name: None for name, kind in self.observation_features.items() if isinstance(kind, tuple)}

    @property
    def is_connected(self) -> bool:
        """Whether it is in the graph."""
        return self._arm is not None

    @property
    def is_calibrated(self) -> bool:
        """Always: the arm's driver sees to that."""
        return True

    def connect(self, calibrate: bool = True) -> None:
        """Join the graph; raises ValueError or RuntimeError, see `GraphArm`."""
        config = self.config
        self._arm = GraphArm(GraphPlace(config.task, config.namespace), lockstep=config.lockstep, truth=config.truth)

    def calibrate(self) -> None:
        """There is nothing to calibrate."""

    def configure(self) -> None:
        """There is nothing to configure."""

    def get_observation(self) -> dict[str, Any]:
        """The newest observation; raises `GraphError` where the graph does not answer."""
        return self._connected().observe()

    def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        """Act for a control period, in which it returns; what was executed. Raises `GraphError`."""
        return self._connected().act(action)

    def disconnect(self) -> None:
        """Leave the graph."""
        if self._arm is not None:
            self._arm.close()
            self._arm = None

    def _connected(self) -> GraphArm:
        if self._arm is None:
            raise ConnectionError(f"{self}: not connected; call connect() first")
        return self._arm
