# SPDX-License-Identifier: Apache-2.0
"""The simulated world of a task: reset, step, look."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray
from serl_config.schema import ConfigError
from serl_robots.control.task_robot import robot_of
from serl_robots.model.joint_trajectory import JointTrajectoryPlan
from serl_robots.model.pose import Pose
from serl_robots.model.robot import READY
from serl_tasks.arm_sample import ArmSample, tool_name
from serl_tasks.camera_view import CameraView
from serl_tasks.task import Task

from serl_sim.rendering import LEAN, Appearance, ImageRenderer
from serl_sim.scene.object_poses import ObjectPoses
from serl_sim.scene.scene import MAX_IMAGE, TIMESTEP, build_model, in_model
from serl_sim.scene.simulated_arm import SimulatedArm
from serl_sim.scene.world_file import cameras_of, load_world_file
from serl_sim.scene.wrist_sensor import WristSensor

SLICE = 5
"""Physics steps between two set points of a trajectory."""
_SETTLING_TIME = 3.0  # [s]
_APPROACH_TIME = 1.0  # [s] in which the tool comes from the middle of its starts to one of them
_REACHED = 0.005  # [m] that it may be away from it then
_DEEPEST = 0.002  # [m] by which what is held may be inside of something at the start
_UNUSED = CameraView()  # of a camera that the task does not use
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION.value
_DIVERGED = (
    mujoco.mjtWarning.mjWARN_BADQPOS.value,
    mujoco.mjtWarning.mjWARN_BADQVEL.value,
    mujoco.mjtWarning.mjWARN_BADQACC.value,
)
_LARGEST_SPEED = 1e3  # [m/s], [rad/s] of anything; MuJoCo itself takes up to 1e10 for a speed


# Else MuJoCo writes MUJOCO_LOG.TXT into whatever folder this runs in.
if mujoco.get_mju_user_warning() is None:
    mujoco.set_mju_user_warning(logging.getLogger("mujoco").warning)


class SimulationError(RuntimeError):
    """The simulated world is no longer a world."""


class World:
    """A robot, a table and the objects of a task in MuJoCo. Poses are in the robot's base frame, quaternions xyzw.

    The same seed and the same commands give the same states bit for bit.
    """

    def __init__(self, task: Task) -> None:
        """Build the world of `task`.

        Raises:
            ConfigError: the task names a robot or a world that there is not, asks for what the robot cannot do, is one
                of a world that others wrote, or a camera of the world and one of the robot have the same name.
            ValueError: the start of the task is out of the robot's reach, its description lacks something, or its
                objects make no stable simulation.
        """
        if task.kind == "gym":
            raise ConfigError(
                f"task {task.name!r}: its world is a Gymnasium environment, which gym_bridge runs: ./serl train "
                f"{task.name}, or ./serl launch sim.launch.xml world:=gym"
            )
        self.task = task
        self.robot = robot_of(task)
        task.check_joints(len(self.robot.arm_joints))
        self.file = load_world_file(task.world)
        self.cameras = cameras_of(self.file, self.robot, task.arm_names)
        """Cameras of the world and of the robot by name; `overview` is not among them."""
        self.model = build_model(task, self.robot, self.file)
        self.data = mujoco.MjData(self.model)
        self._steps_per_period = round(task.control_period / TIMESTEP)
        if abs(self._steps_per_period * TIMESTEP - task.control_period) > 1e-9:
            raise ValueError(
                f"task {task.name!r}: control_period must be a multiple of {TIMESTEP} s, found {task.control_period}"
            )
        model = self.model
        if not task.arms:
            base = model.body(self.robot.base_frame)
            if base.pos.any() or base.quat[0] != 1.0:
                raise ValueError(f"robot {self.robot.name!r}: expected its base frame to be that of the world")
        self.arms = {
            name: SimulatedArm(model, self.robot, task.of_arm(name), prefix=in_model(name), number=number)
            for number, name in enumerate(task.arm_names)
        }
        """The arms by their prefixes; a single one has none."""
        self._arm = next(iter(self.arms.values()))
        self.kinematics = self._arm.kinematics
        self._objects = ObjectPoses(model, task.objects)
        self._diverged = ""  # why the world is none until it is reset
        self._renderers: dict[Appearance, ImageRenderer] = {}
        self._tools: dict[str, Pose] = {}  # of the arms, computed when asked for, and kept until the world moves
        self._samples: dict[str, ArmSample] = {}
        cutoff = self.robot.simulation.wrench_cutoff
        self._wrist = WristSensor(model, cutoff) if task.measures_wrench else None
        self._home = self._settled()
        self.reset(0)

    # Commands

    def reset(self, seed: int, objects: Mapping[str, Pose] | None = None) -> None:
        """Go to the start state: the arm at the task's start, the objects where `seed` puts them.

        Args:
            seed: any integer from 0.
            objects: poses of some objects, instead of those that the seed gives.

        Raises:
            ValueError: `seed` is negative, there is no such object, or the tool cannot start there: the place is out of
                reach, or something is in the way.
        """
        if seed < 0:
            raise ValueError(f"seed: expected an integer from 0, found {seed}")
        rng = np.random.default_rng(seed)
        poses = self.task.sample_objects(rng) | dict(objects or {})
        movable = self._objects.movable
        unknown = poses.keys() - set(movable)
        if unknown:
            raise ValueError(f"no object {', '.join(sorted(unknown))}; there are {', '.join(movable)}")
        model, data = self.model, self.data
        self._diverged = ""
        mujoco.mj_resetData(model, data)
        mujoco.mj_setState(model, data, self._home, _STATE)
        self._objects.place(data, poses)
        for arm in self.arms.values():
            arm.gripper_target = self.task.start.gripper_width
            arm.lead_by_pose(data)
        if self.task.start.varies:
            known = self.task.errors.draw(seed).objects(poses)
            self._go_to({name: self.task.start_pose(rng, known) for name in self.arms})
        mujoco.mj_forward(model, data)
        if self._wrist is not None:
            self._wrist.reset(data)
        self._forget()
        self._check_start()

    def place_objects(self, seed: int) -> None:
        """Put the objects where `seed` puts them at the start, at rest; the robot and its time stay as they are.

        Raises:
            ValueError: `seed` is negative.
        """
        if seed < 0:
            raise ValueError(f"seed: expected an integer from 0, found {seed}")
        poses = self.task.sample_objects(np.random.default_rng(seed))
        data = self.data
        joints = [(arm, arm.positions(data), arm.velocities(data)) for arm in self.arms.values()]
        controls, time = data.ctrl.copy(), data.time
        self._diverged = ""
        for warning in _DIVERGED:
            data.warning[warning].number = 0
        mujoco.mj_setState(self.model, data, self._home, _STATE)
        self._objects.place(data, poses)
        for arm, positions, velocities in joints:
            arm.place(data, positions, velocities)
        data.ctrl[:], data.time = controls, time
        mujoco.mj_forward(self.model, data)
        self._forget()

    def show(self, other: "World") -> None:
        """Take over the state of another world of the same task, to look at it while that one goes on."""
        state = np.empty(mujoco.mj_stateSize(other.model, _STATE))
        mujoco.mj_getState(other.model, other.data, state, _STATE)
        mujoco.mj_setState(self.model, self.data, state, _STATE)
        self._forget()

    def step(self, target: Pose, gripper_width: float) -> None:
        """Pull the tool towards `target` and the fingers to `gripper_width` [m] for one control period.

        Raises:
            ValueError: the width is not finite.
            SimulationError: the simulation diverged.
        """
        self.command_pose(target)
        self.command_gripper(gripper_width)
        self.advance(self._steps_per_period)

    def step_joints(self, positions: NDArray[np.float64], gripper_width: float) -> None:
        """Lead the arm joints to `positions` (n,) [rad] and the fingers to `gripper_width` [m] for one control period.

        On a straight line from where they are, as a trajectory of one point does.

        Raises:
            ValueError: wrong number of positions, or a number that is not finite.
            SimulationError: the simulation diverged.
        """
        self.command_gripper(gripper_width)
        period = 1e-9 * round(1e9 * self.task.control_period)
        plan = JointTrajectoryPlan([0.0, period], [self.arm_positions, positions])
        left, time = self._steps_per_period, 0.0
        while left > 0:
            some = min(SLICE, left)
            left -= some
            time += some * TIMESTEP
            self.command_joints(plan.at(time))
            self.advance(some)

    def command_pose(self, target: Pose, arm: str = "") -> None:
        """Let the Cartesian controller of an arm lead, to the tool pose `target` in the frame of that arm's base.

        An arm of fewer than six joints gets to its position with the nearest orientation that it can have there.
        """
        self.arms[arm].command_pose(self.data, target)

    def command_joints(self, positions: Sequence[float] | NDArray[np.float64], arm: str = "") -> None:
        """Let the joint controller of an arm lead, to arm joint `positions` (n,) [rad].

        Raises:
            ValueError: wrong number of values, or one that is not finite.
        """
        self.arms[arm].command_joints(self.data, positions)

    def command_gripper(self, width: float, arm: str = "") -> None:
        """Move the fingers of an arm to the nearest distance from each other to `width` [m] that the gripper has.

        Raises:
            ValueError: not finite.
        """
        self.arms[arm].command_gripper(self.data, width)
        self._samples.clear()

    def advance(self, steps: int) -> None:
        """Let `steps` physics steps pass.

        Raises:
            SimulationError: the simulation diverged, now or before; what it says of its state is worth nothing until
                `reset`.
        """
        if self._diverged:
            raise SimulationError(self._diverged)
        if self._wrist is None:
            mujoco.mj_step(self.model, self.data, steps)
        else:
            for _ in range(steps):
                mujoco.mj_step(self.model, self.data)
                self._wrist.update(self.data)
        self._forget()
        reason = self._divergence()
        if reason:
            self._diverged = f"the simulation diverged; reset the world. {reason}"
            raise SimulationError(self._diverged)

    # What is measured

    @property
    def steps_per_period(self) -> int:
        """Physics steps in one control period."""
        return self._steps_per_period

    @property
    def arm_limits(self) -> NDArray[np.float64]:
        """Lowest and highest position of each arm joint, float64 (n, 2) [rad]."""
        return self._arm.limits

    @property
    def joint_positions(self) -> NDArray[np.float64]:
        """Positions in the order of ``robot.joints``, float64 (n,): arm and rotary jaw [rad], fingers [m]."""
        return self._arm.positions(self.data)

    @property
    def arm_positions(self) -> NDArray[np.float64]:
        """Positions of the arm joints, float64 (n,) [rad]."""
        return self._arm.arm_positions(self.data)

    @property
    def joint_velocities(self) -> NDArray[np.float64]:
        """Velocities in the order of ``robot.joints``, float64 (n,): arm and rotary jaw [rad/s], fingers [m/s]."""
        return self._arm.velocities(self.data)

    @property
    def joint_efforts(self) -> NDArray[np.float64]:
        """What the motors give, in the order of ``robot.joints``, float64 (n,) [Nm], fingers [N]; gravity included."""
        return self._arm.efforts(self.data)

    @property
    def gripper_width(self) -> float:
        """Measured distance of the fingers [m]."""
        return self._arm.gripper_width(self.data)

    @property
    def finger_speed(self) -> float:
        """Measured speed of the fastest finger [m/s]."""
        return self._arm.finger_speed(self.data)

    @property
    def wrench(self) -> NDArray[np.float64] | None:
        """Force [N] and torque [Nm] (6,) of the world on the tool, see `ArmSample`; None if no term asks for them."""
        return None if self._wrist is None else self._wrist.wrench

    def readings(self, arm: str) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Positions, velocities and efforts of one arm's joints, each as that of a single one: float64 (n,)."""
        joints = self.arms[arm]
        return joints.positions(self.data), joints.velocities(self.data), joints.efforts(self.data)

    def arm_sample(self) -> ArmSample:
        """What an observation needs of the arm; computed as the arm controller computes it from joint states.

        Of several arms that of each, see `ArmSample.arms`.
        """
        return self.task.joined({name: self.sample_of(name) for name in self.arms})

    def sample_of(self, arm: str) -> ArmSample:
        """What is measured of one arm, in the frame of its base."""
        if arm not in self._samples:
            self._samples[arm] = self.arms[arm].sample(self.data, self._tool(arm), self.wrench)
        return self._samples[arm]

    def objects(self) -> dict[str, Pose]:
        """True poses of ``"tcp"``, of several arms of ``"left/tcp"`` and so on, and of every object."""
        tools = {tool_name(name): self.task.in_world(name, self._tool(name)) for name in self.arms}
        return {**tools, **self._objects.read(self.data, next(iter(tools.values())))}

    def picture_size(self, camera: str, scale: float = 1.0) -> tuple[int, int]:
        """Width and height in which `camera` is to be drawn for the task, or for nobody in particular [pixels].

        Args:
            camera: one of ``cameras``.
            scale: how many pixels in a row shall become one in the observation.
        """
        return self.task.cameras.get(camera, _UNUSED).picture_size(MAX_IMAGE, scale)

    def render(self, camera: str, width: int, height: int, appearance: Appearance = LEAN) -> NDArray[np.uint8]:
        """RGB image, uint8 (height, width, 3), top row first.

        The first image opens an OpenGL context in the calling thread, which then has to ask for all others as well.

        Args:
            camera: one of ``cameras``, or ``overview``.
            width: of the image [pixels].
            height: of the image [pixels].
            appearance: how much to spend on looks.

        Raises:
            RenderError: there is no OpenGL here, no such camera, or this is another thread.
        """
        renderer = self._renderers.get(appearance)
        if renderer is None or not renderer.is_open:
            renderer = self._renderers[appearance] = ImageRenderer(self.model, appearance)
        # After a step the frames of bodies are those of the last physics step but one.
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)
        return renderer.render(self.data, camera, width, height)

    def close(self) -> None:
        """Give the OpenGL contexts back, if there are any."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

    def __getstate__(self) -> dict[str, Any]:
        """All but the OpenGL contexts, for `copy` and `pickle`: a copy is a world of its own in the same state.

        MuJoCo reads only what the same version of it has written.
        """
        # MjData brings its model along. Two copies of it would part: it says which controller leads.
        state = vars(self) | {"_renderers": {}}
        del state["model"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.model = self.data.model

    # Inside

    def _divergence(self) -> str:
        """Why this is no world any more; empty while it is one."""
        warnings = self.data.warning
        for kind in _DIVERGED:
            if warnings[kind].number:
                return f"MuJoCo says: {mujoco.mju_warningText(kind, warnings[kind].lastinfo)}"
        speeds = np.abs(self.data.qvel)
        fastest = int(speeds.argmax())
        if speeds[fastest] <= _LARGEST_SPEED:
            return ""
        joint = self.model.joint(int(self.model.dof_jntid[fastest])).name
        return f"{joint} moves with {speeds[fastest]:.3g} m/s or rad/s, expected at most {_LARGEST_SPEED:g}"

    def _tool(self, arm: str) -> Pose:
        """Tool of an arm, in the frame of its base."""
        if arm not in self._tools:
            self._tools[arm] = self.arms[arm].tcp(self.data)
        return self._tools[arm]

    def _forget(self) -> None:
        """The world has moved: what was measured is no longer true."""
        self._tools.clear()
        self._samples.clear()

    def _go_to(self, starts: Mapping[str, Pose]) -> None:
        """Bring the tools to where they start, before the episode's time begins."""
        data = self.data
        for name, start in starts.items():
            self.command_pose(start, name)
        mujoco.mj_step(self.model, data, round(_APPROACH_TIME / TIMESTEP))
        data.qvel[:] = 0.0
        data.time = 0.0
        self._forget()
        self._check_reach(starts)

    def _check_reach(self, starts: Mapping[str, Pose]) -> None:
        for name, start in starts.items():
            error = self._tool(name).distance(start)
            if error > _REACHED:
                place = ", ".join(f"{value:.3f}" for value in start.position)
                raise ValueError(
                    f"task {self.task.name!r}: start.tcp_position: the tool cannot get to ({place}) m: it stops "
                    f"{error:.3f} m away from it; is that out of reach, or is something in the way?"
                )

    def _check_start(self) -> None:
        """Raise ValueError where something that the robot holds is inside of something else."""
        contacts = self.data.contact
        for index in np.flatnonzero(contacts.dist < -_DEEPEST).tolist():
            geoms = [self.model.geom(geom) for geom in contacts.geom[index]]
            if any(self._objects.is_held(int(geom.bodyid[0])) for geom in geoms):
                names = " and ".join(sorted(geom.name or "the robot" for geom in geoms))
                raise ValueError(
                    f"task {self.task.name!r}: start.tcp_position: expected a start where nothing is in the way, found "
                    f"{names} {-1e3 * float(contacts.dist[index]):.1f} mm inside of each other"
                )

    def _settled(self) -> NDArray[np.float64]:
        """State of the arm at rest at the task's start, everything on the table at rest too."""
        model, data = self.model, self.data
        starts = dict.fromkeys(self.arms, self.task.middle_start)
        for name, arm in self.arms.items():
            arm.place_arm(data, self.robot.configuration(READY))
            self.command_pose(starts[name], name)
            self.command_gripper(self.task.start.gripper_width, name)
        for _ in range(3):
            # The posture springs pull the tool off its target, until they pull towards where the arm is at rest.
            for arm in self.arms.values():
                arm.relax(model, data)
            try:
                self.advance(round(_SETTLING_TIME / TIMESTEP))
            except SimulationError as error:
                raise ValueError(
                    f"task {self.task.name!r}: objects: expected ones that come to rest, but {error} Is something too "
                    "light for its contacts, or a cable not stiff enough?"
                ) from error
        self._check_reach(starts)
        data.qvel[:] = 0.0
        data.time = 0.0
        state = np.empty(mujoco.mj_stateSize(model, _STATE))
        mujoco.mj_getState(model, data, state, _STATE)
        return state
