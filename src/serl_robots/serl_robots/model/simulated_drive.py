# SPDX-License-Identifier: Apache-2.0
"""What drives an arm in the simulator: gains of its servos, and the friction of its pads. A real arm has its own."""

from typing import Literal

from serl_config.schema import Field, config, model_validator


@config(kw_only=True)
class Servo:
    """A spring to the commanded value with a damper, of limited force.

    It gives `clip(stiffness * (commanded - measured) - damping * velocity, -limit, limit)`.
    """

    stiffness: float = Field(gt=0.0, description="[N/m] or [Nm/rad]")
    damping: float = Field(ge=0.0, description="[N s/m] or [Nm s/rad]")
    limit: float = Field(gt=0.0, description="largest force [N] or torque [Nm]")


@config(kw_only=True)
class CartesianServo:
    """The Cartesian impedance controller that follows `target_pose`.

    A limit over its stiffness is the largest error that is acted on, which is what SERL (Luo et al., arXiv 2401.16013)
    calls error clipping.
    """

    linear: Servo = Field(description="of the tool's position: [N/m], [N s/m], [N]")
    angular: Servo = Field(description="of its rotation vector: [Nm/rad], [Nm s/rad], [Nm]")


@config(kw_only=True)
class JointServos:
    """Position servos of the arm joints, in their order, within the URDF's effort limits."""

    stiffness: tuple[float, ...] = Field(description="[Nm/rad]")
    damping: tuple[float, ...] = Field(description="[Nm s/rad]")

    @model_validator(mode="after")
    def _are_positive(self) -> "JointServos":
        if not (all(value > 0.0 for value in self.stiffness) and all(value >= 0.0 for value in self.damping)):
            raise ValueError(
                f"expected a stiffness above 0 and a damping from 0, found {list(self.stiffness)} and "
                f"{list(self.damping)}"
            )
        return self


@config(kw_only=True)
class SimulatedDrive:
    """How the simulated arm moves and holds."""

    cartesian: CartesianServo
    joints: JointServos
    gripper: Servo = Field(description="of the mean position of the gripper's joints, in the unit that these have")
    joint_damping: float = Field(ge=0.0, description="passive, of each arm joint [Nm s/rad]")
    joint_armature: float = Field(
        default=0.0, ge=0.0, description="inertia of motor and gear as each arm joint feels it [kg m^2]"
    )
    posture_stiffness: float = Field(
        ge=0.0,
        description="of a weak spring in each arm joint towards the start configuration, which keeps an elbow in "
        "place where the arm has more joints than the tool needs [Nm/rad]",
    )
    touching: Literal["all", "gripper"] = Field(
        default="all",
        description="links that touch table and objects: all, or those alone that the gripper's joints are on and move",
    )
    pad_friction: tuple[float, float, float] = Field(
        description="of the collision shapes whose name ends in _pad: sliding, torsional [m], rolling [m]"
    )
    wrench_cutoff: float = Field(
        default=20.0, gt=0.0, le=200.0, description="of the low-pass of force and torque at the wrist [Hz]"
    )

    @model_validator(mode="after")
    def _has_friction(self) -> "SimulatedDrive":
        if not all(value > 0.0 for value in self.pad_friction):
            raise ValueError(f"pad_friction: expected three positive numbers, found {list(self.pad_friction)}")
        return self
