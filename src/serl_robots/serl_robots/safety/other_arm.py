# SPDX-License-Identifier: Apache-2.0
"""What an arm controller knows of the arm beside its own: from whose hand its own is kept away."""

from typing import Final

from serl_robots.model.pose import Pose
from serl_robots.safety.keep_apart import KeepApart

_LOOK: Final = 0.02  # [s] of local time between two looks, at most


class OtherArm:
    """Where the other arm is commanded to be, as it tells with each of its states.

    In lockstep the two command on the same state, each by where the other was commanded before, as one process would.
    In real time each keeps its distance from where the other was a moment ago, and as much more as that one may have
    come nearer since: in the age of the message, until the next command, and where it does not follow its own commands.
    Once the other one has been silent for `limits.joint_state_timeout` the tool brakes and stands.

    Attributes:
        keep_apart: what the tool's filter asks.
    """

    def __init__(self, keep_apart: KeepApart, *, lockstep: bool) -> None:
        """Know nothing of it yet; `lockstep` says whether the world moves for commands only."""
        self.keep_apart = keep_apart
        self._lockstep = lockstep
        self._target: Pose | None = None
        self._lag, self._stamp_ns, self._heard_at = 0.0, -1, -1e9
        self._stopped = False

    def hear(self, target: Pose, tcp: Pose, stamp_ns: int, now: float) -> None:
        """It tells of itself.

        Args:
            target: where its tool is commanded to be, in the frame of its base.
            tcp: where that is measured, likewise.
            stamp_ns: of the state on which it tells this [ns].
            now: local time [s].
        """
        self._target, self._stamp_ns, self._heard_at = target, stamp_ns, now
        self._lag = 0.0 if self._lockstep else target.distance(tcp) + self.keep_apart.reach * target.angle(tcp)
        self.look(now)

    def look(self, now: float) -> None:
        """Say to the filter how much nearer it may have come by the local time `now` [s]."""
        if self._target is None:
            return
        age = now - self._heard_at
        if self._lockstep:
            self.keep_apart.see(self._target)
        elif age > self.keep_apart.patience:
            self.keep_apart.forget()
        else:
            since = age + self.keep_apart.period + _LOOK
            self.keep_apart.see(self._target, self.keep_apart.hand_speed * since + self._lag)

    def allows(self, stamp_ns: int) -> bool:
        """Whether an action may be taken on the state of `stamp_ns` [ns]: in lockstep the other has told of it, too."""
        return not self._lockstep or stamp_ns == self._stamp_ns

    def begins_to_stop(self, *, stopped: bool) -> bool:
        """Whether it is stopped now and was not before."""
        begins = stopped and not self._stopped
        self._stopped = stopped
        return begins
