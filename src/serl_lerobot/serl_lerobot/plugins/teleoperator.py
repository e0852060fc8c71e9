# SPDX-License-Identifier: Apache-2.0
"""A teleoperator of LeRobot that is the person of a running graph: whoever leads there, by whichever device."""

from functools import cached_property
from typing import Any

from lerobot.teleoperators import Teleoperator

from serl_lerobot.graph_arm import GraphPlace, action_features, expect_person, open_arm
from serl_lerobot.plugins.config_teleoperator import SerlTeleoperatorConfig


class SerlTeleoperator(Teleoperator):
    """See `lerobot.teleoperators.Teleoperator`. Needs a robot of type `serl` in the same process."""

    config_class = SerlTeleoperatorConfig
    name = "serl"

    def __init__(self, config: SerlTeleoperatorConfig) -> None:
        """Name the graph."""
        super().__init__(config)
        self.config = config
        self._place = GraphPlace(config.task, config.namespace)
        self._is_connected = False

    @cached_property
    def action_features(self) -> dict[str, Any]:
        """Components of the task's action, each in [-1, 1]."""
        return action_features(self.config.task)

    @property
    def feedback_features(self) -> dict[str, Any]:
        """None."""
        return {}

    @property
    def is_connected(self) -> bool:
        """Whether the person is listened to."""
        return self._is_connected

    @property
    def is_calibrated(self) -> bool:
        """Always."""
        return True

    def connect(self, calibrate: bool = True) -> None:
        """Have the person lead. The robot `serl` may be connected before, as LeRobot 0.4 does, or behind it, as 0.6."""
        expect_person(self._place, leads=True)
        self._is_connected = True

    def calibrate(self) -> None:
        """There is nothing to calibrate."""

    def configure(self) -> None:
        """There is nothing to configure."""

    def get_action(self) -> dict[str, Any]:
        """What the person does now; no motion while nobody leads.

        Raises:
            ConnectionError: before `connect`.
            RuntimeError: no robot `serl` is connected in this process.
        """
        if not self._is_connected:
            raise ConnectionError(f"{self}: not connected; call connect() first")
        return open_arm(self._place).person()

    def send_feedback(self, feedback: dict[str, Any]) -> None:
        """The person's device gets its feedback from the graph."""

    def disconnect(self) -> None:
        """Listen no longer."""
        expect_person(self._place, leads=False)
        self._is_connected = False
