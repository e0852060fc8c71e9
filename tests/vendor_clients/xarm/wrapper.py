# SPDX-License-Identifier: Apache-2.0
"""An arm that obeys a client's calls in servo mode, and a control box that says why it does not.

What it does wrong is read from the file that XARM_STAND_IN names, at each call: `error`, a number; `silent`, nothing is
answered; `axis`; `unplugged`, there is no connection. What moves or switches it is noted in the file beside it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

TIMED_OUT, NOT_READY, OUT_OF_RANGE = 3, 9, -8


class XArmAPI:
    """See the vendor's class of this name."""

    def __init__(
        self, port: str | None = None, is_radian: bool = False, do_not_open: bool = False, **kwargs: Any
    ) -> None:
        self._plan = Path(os.environ["XARM_STAND_IN"])
        if self._said("unplugged"):
            raise Exception("connect socket failed")  # as the vendor's
        assert is_radian and port
        self.axis, self.mode, self.timeout = self._said("axis") or 6, 0, 2.0
        self._enabled = self._ready = False
        self._angles = [0.0, -0.5, -0.5, 0.0, 1.0, 0.0]
        self._pulses = 850

    def set_timeout(self, timeout: float) -> float:
        self.timeout = timeout
        return timeout

    def get_joint_states(self, is_radian: bool | None = None, num: int = 3) -> tuple[int, list[list[float]]]:
        return self._code(), [[*self._angles, 0.0], [0.0] * 7, [0.1] * 7]

    def get_err_warn_code(self, show: bool = False, lang: str = "en") -> tuple[int, list[int]]:
        return self._code(), [self._said("error") or 0, 0]

    def get_gripper_position(self, **kwargs: Any) -> tuple[int, int]:
        return self._code(), self._pulses

    def clean_error(self) -> int:
        return self._code()

    def clean_warn(self) -> int:
        return self._code()

    def clean_gripper_error(self, **kwargs: Any) -> int:
        return self._code()

    def motion_enable(self, enable: bool = True, servo_id: int | None = None) -> int:
        self._note("motion_enable", enable)
        self._enabled, self._ready = enable, self._ready and enable
        return self._code()

    def set_mode(self, mode: int = 0, detection_param: int = 0) -> int:
        self.mode, self._ready = mode, False
        return self._code()

    def set_state(self, state: int = 0) -> int:
        self._ready = self._enabled and state == 0
        return self._code()

    def set_gripper_mode(self, mode: int, **kwargs: Any) -> int:
        return self._code()

    def set_gripper_enable(self, enable: bool, **kwargs: Any) -> int:
        return self._code()

    def set_servo_angle_j(
        self, angles: list[float], speed: float | None = None, mvacc: float | None = None, mvtime: float | None = None,
        is_radian: bool | None = None, **kwargs: Any,
    ) -> int:  # fmt: skip
        if not (self._ready and self.mode == 1) or self._said("error"):
            return NOT_READY
        if not -2.059 <= angles[1] <= 2.0944:
            return OUT_OF_RANGE
        self._note("set_servo_angle_j", angles)
        self._angles = list(angles)
        return self._code()

    def set_gripper_position(
        self, pos: float, wait: bool = False, speed: float | None = None, auto_enable: bool = False,
        timeout: float | None = None, **kwargs: Any,
    ) -> int:  # fmt: skip
        assert kwargs == {"wait_motion": False, "check_err": False}, "the vendor's waits until the arm stands"
        self._note("set_gripper_position", pos)
        self._pulses = int(pos)
        return self._code()

    def disconnect(self) -> None:
        self._note("disconnect", None)

    def _said(self, what: str) -> Any:
        return json.loads(self._plan.read_text(encoding="utf-8")).get(what)

    def _code(self) -> int:
        return TIMED_OUT if self._said("silent") else 0

    def _note(self, call: str, value: object) -> None:
        with self._plan.with_suffix(".calls").open("a", encoding="utf-8") as file:
            file.write(json.dumps([call, value]) + "\n")
