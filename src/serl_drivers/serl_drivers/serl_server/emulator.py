# SPDX-License-Identifier: Apache-2.0
"""A robot server that is not there: the end points of SERL's `franka_server.py`, with an arm behind them that follows.

The arm has no physics: its tool goes to the pose that it was sent last, as fast as an impedance controller lets it, and
its joints follow by differential inverse kinematics. It is what tests, and a first look without a robot, connect to.
"""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import numpy as np
from serl_robots.model.kinematics import Kinematics
from serl_robots.model.pose import Pose
from serl_robots.model.robot import HOME, RobotModel

from serl_drivers.serl_server.gripper import FRANKA_OPENING, FULL, GripperDialect

STEP: Final = 0.01
"""Step of its motion [s]."""
LAG: Final = 0.1
"""Time in which the tool has gone most of its way [s]."""
NOISE: Final = 1e-6
"""Noise of its encoders [rad]."""
DAMPING: Final = 1e-2
GRIPPER_SPEED: Final = 0.1
"""[m/s]"""


class EmulatedRobotServer:
    """Listens from `start` to `close`.

    Attributes:
        posted: end points in the order in which they were asked.
        switched_off: the state stays as it is, as where the robot is switched off and the server is not.
        reflex: the arm stands and does not follow until `/clearerr`.
        answers: what an end point answers instead of what it should: status and bytes.
    """

    def __init__(
        self, robot: RobotModel, gripper: GripperDialect, port: int = 0, ee_offset: Pose | None = None
    ) -> None:
        """Stand the arm at `home`.

        Args:
            robot: whose arm it is.
            gripper: how its state and its commands are said.
            port: at which it listens on 127.0.0.1; 0 for any that is free.
            ee_offset: from the tool centre point to the end effector that the server's poses are of.
        """
        self._kinematics = Kinematics(robot)
        self._positions = np.array(robot.configuration(HOME))
        self._velocities = np.zeros_like(self._positions)
        self._offset = Pose.identity() if ee_offset is None else ee_offset
        self._target = self._kinematics.tcp(self._positions)
        self._gripper = gripper
        self._width = self._width_target = gripper.opening
        self._random = np.random.default_rng(0)
        self._now = time.monotonic()
        self._lock = threading.Lock()
        self._answer: dict[str, Any] | None = None
        self.posted: list[str] = []
        self.switched_off = False
        self.reflex = False
        self.answers: dict[str, tuple[int, bytes]] = {}
        emulated = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, content, kind = emulated._post(self.path, body)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="emulated robot server", daemon=True
        )

    @property
    def port(self) -> int:
        """Port at which it listens."""
        return int(self._server.server_address[1])

    @property
    def tool(self) -> Pose:
        """Pose of the end effector that the server says."""
        return self._kinematics.tcp(self._positions).compose(self._offset)

    @property
    def positions(self) -> list[float]:
        """Where its joints are [rad]."""
        with self._lock:
            return [float(each) for each in self._positions]

    def start(self) -> EmulatedRobotServer:
        """Begin to listen."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Be gone, whoever is connected."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _post(self, path: str, body: bytes) -> tuple[int, bytes, str]:
        with self._lock:
            self.posted.append(path)
            if path in self.answers:
                status, content = self.answers[path]
                return status, content, "application/json"
            self._move_on()
            values = json.loads(body) if body else None
            answer = self._obey(path, values)
            if isinstance(answer, str):
                return 200, answer.encode(), "text/html; charset=utf-8"
            return (404, b"", "text/html") if answer is None else (200, json.dumps(answer).encode(), "application/json")

    def _obey(self, path: str, values: Any) -> dict[str, Any] | str | None:
        state = self._state()
        parts = {
            "/getpos": "pose", "/getq": "q", "/getdq": "dq", "/getforce": "force", "/gettorque": "torque",
            "/getvel": "vel", "/getjacobian": "jacobian",
        }  # fmt: skip
        if path == "/getstate":
            return state
        if path in parts:
            return {parts[path]: state[parts[path]]}
        if path == "/pose":
            self._target = Pose(values["arr"][:3], values["arr"][3:]).compose(self._offset.inverse())
            return "Moved"
        if path == "/clearerr":
            self.reflex = False
            return "Clear"
        if path in ("/open_gripper", "/close_gripper"):
            self._width_target = self._gripper.opening if path == "/open_gripper" else 0.0
            return "Opened" if path == "/open_gripper" else "Closed"
        if path == "/move_gripper":
            share = 1.0 - min(max(int(values["gripper_pos"]), 0), FULL) / FULL
            self._width_target = share * self._gripper.opening
            return "Moved Gripper"
        return {"/startimp": "Started impedance", "/stopimp": "Stopped impedance", "/update_param": "Updated"}.get(path)

    def _state(self) -> dict[str, Any]:
        if self.switched_off and self._answer is not None:
            return self._answer
        jacobian = self._kinematics.jacobian(self._positions)
        noisy = self._positions + NOISE * self._random.standard_normal(self._positions.size)
        tool = self.tool
        self._answer = {
            "pose": [*tool.position.tolist(), *tool.quaternion.tolist()],
            "vel": (jacobian @ self._velocities).tolist(),
            "force": (0.3 * self._random.standard_normal(3)).tolist(),
            "torque": (0.05 * self._random.standard_normal(3)).tolist(),
            "q": noisy.tolist(),
            "dq": self._velocities.tolist(),
            "jacobian": jacobian.tolist(),
            "gripper_pos": self._gripper_position(),
        }
        return self._answer

    def _gripper_position(self) -> float:
        if self._gripper.kind == "franka":
            return self._width if self._gripper.server == "serl" else self._width / FRANKA_OPENING
        closed = 1.0 - self._width / self._gripper.opening
        return round(FULL * closed) if self._gripper.server == "serl" else 1.0 - closed

    def _move_on(self) -> None:
        now = time.monotonic()
        steps = min(int((now - self._now) / STEP), 100)  # a machine that stood still is not made up for
        if steps == 0:
            return
        self._now = now
        for _ in range(steps):
            self._velocities[:] = 0.0
            if not (self.reflex or self.switched_off):
                self._step()
        travel = GRIPPER_SPEED * STEP * steps
        self._width += min(max(self._width_target - self._width, -travel), travel)

    def _step(self) -> None:
        tcp = self._kinematics.tcp(self._positions)
        error = np.concatenate([tcp.position_to(self._target), tcp.rotation_vector_to(self._target)])
        jacobian = self._kinematics.jacobian(self._positions)
        wanted = np.clip(error / LAG, -1.0, 1.0)
        damped = jacobian @ jacobian.T + DAMPING**2 * np.eye(6)
        self._velocities = jacobian.T @ np.linalg.solve(damped, wanted)
        self._positions = np.clip(
            self._positions + self._velocities * STEP, self._kinematics.lower, self._kinematics.upper
        )
