# SPDX-License-Identifier: Apache-2.0
"""When everything that a reset or a step leads to has arrived, and what of it is missing."""

from __future__ import annotations

from serl_training.env.graph_cameras import CameraInputs
from serl_training.env.graph_inputs import GraphInputs


class StepProgress:
    """Compares what has arrived with the step that is asked for.

    In lockstep everything of a state carries one stamp. In real time a step takes one control period of the arm's
    clock, and pictures only have to be fresh.

    Attributes:
        stamp_ns: stamp of the state that is acted on [ns].
    """

    def __init__(
        self,
        inputs: GraphInputs,
        cameras: CameraInputs,
        *,
        period_ns: int,
        lockstep: bool,
        truth: bool,
        camera_timeout: float,
    ) -> None:
        """Compare.

        Args:
            inputs: the newest messages, and which step is asked for.
            cameras: the newest pictures.
            period_ns: control period [ns].
            lockstep: whether the world waits for each command.
            truth: whether a state has true poses.
            camera_timeout: age from which a picture is too old to act on [s]; not used in lockstep.
        """
        self.stamp_ns = 0
        self._inputs, self._cameras = inputs, cameras
        self._period_ns, self._lockstep, self._truth = period_ns, lockstep, truth
        self._camera_timeout = camera_timeout

    def has_state(self, stamp_ns: int) -> bool:
        """Whether there is a whole state of this stamp [ns] or a later one."""
        arm_ns, truth_ns = self._inputs.arm_stamp_ns, self._inputs.truth_stamp_ns
        if arm_ns < stamp_ns or (self._truth and truth_ns < stamp_ns) or not self._inputs.has_wrench():
            return False
        if self._lockstep:
            return self._cameras.have(truth_ns if self._truth else arm_ns)
        return self._cameras.are_fresh(self._camera_timeout)

    def missing_of_state(self, stamp_ns: int) -> str:
        """What `has_state` lacks."""
        missing = []
        if self._inputs.arm_stamp_ns < stamp_ns:
            missing.append("arm/state (arm_controller)")
        if self._truth and self._inputs.truth_stamp_ns < stamp_ns:
            missing.append("truth (mujoco_bridge)")
        missing += self._missing_wrench()
        missing += self._cameras.without(stamp_ns) if self._lockstep else self.stale_cameras()
        return "the state after the reset: " + ", ".join(missing)

    def is_complete(self) -> bool:
        """Whether the step is over: executed, judged, and its next state is there."""
        return self._is_complete_in_lockstep() if self._lockstep else self._is_judged() and self.is_executed()

    def is_executed(self) -> bool:
        """Whether the arm controller has answered the step, and a control period has passed on the arm's clock."""
        inputs = self._inputs
        is_over = inputs.executed is not None and inputs.arm_stamp_ns >= self.stamp_ns + self._period_ns
        return is_over and inputs.has_wrench()

    def missing_of_step(self) -> str:
        """What the step still waits for."""
        inputs = self._inputs
        missing = [] if inputs.executed is not None else ["arm/executed (arm_controller)"]
        if self._truth and not self._has_true_step():
            missing.append("truth (mujoco_bridge)")
        missing += self._missing_wrench()
        if self._lockstep and not missing:
            stamp_ns = inputs.truth_stamp_ns if self._truth else inputs.arm_stamp_ns
            missing += self._cameras.without(stamp_ns)
            if not missing and inputs.reward_stamp_ns != stamp_ns:
                missing.append("reward (reward)")
        elif not self._is_judged():
            missing.append("reward (reward)")
        if not missing:
            missing.append("arm/state (arm_controller)")
        return f"step {inputs.step} of episode {inputs.episode}: " + ", ".join(missing)

    def stale_cameras(self) -> list[str]:
        """Topics of the cameras whose newest picture is too old to act on, with its age; none in lockstep."""
        return [] if self._lockstep else self._cameras.stale(self._camera_timeout)

    def _missing_wrench(self) -> list[str]:
        return [] if self._inputs.has_wrench() else ["wrench (mujoco_bridge, or the driver of a real arm)"]

    def _is_complete_in_lockstep(self) -> bool:
        inputs = self._inputs
        reward = inputs.reward
        if inputs.arm is None or reward is None or inputs.executed is None:
            return False
        # Who judges pictures knows their stamp, not the number of the step.
        stamp_ns = inputs.arm_stamp_ns
        if self._truth:
            is_next = inputs.truth_stamp_ns == stamp_ns and self._has_true_step()
        else:
            is_next = stamp_ns > self.stamp_ns
        return (
            is_next
            and reward.episode == inputs.episode
            and inputs.reward_stamp_ns == stamp_ns
            and inputs.has_wrench()
            and self._cameras.have(inputs.arm_stamp_ns)
        )

    def _has_true_step(self) -> bool:
        truth = self._inputs.truth
        return truth is not None and truth.episode == self._inputs.episode and truth.step == self._inputs.step + 1

    def _is_judged(self) -> bool:
        reward = self._inputs.reward
        return reward is not None and reward.episode == self._inputs.episode
