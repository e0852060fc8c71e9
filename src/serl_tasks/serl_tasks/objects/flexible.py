# SPDX-License-Identifier: Apache-2.0
"""How a cable bends: as a chain of short rigid links."""

from __future__ import annotations

from serl_config.schema import Field, config

_FASTEST = 0.004  # [s]


@config(kw_only=True)
class Flexible:
    """What makes a capsule flexible. It bends, and it is neither twisted nor stretched."""

    links: int = Field(ge=2, le=32, description="number of rigid pieces of the same length")
    stiffness: float = Field(
        gt=0.0, description="bending stiffness: Young's modulus times second moment of area [N m^2]"
    )
    relaxation: float = Field(
        default=0.02,
        ge=_FASTEST,
        description="time in which a bend that is let go of has become smaller by the factor e, without inertia [s]",
    )

    def joint_stiffness(self, length: float) -> float:
        """Stiffness [Nm/rad] of the joint between two links of `length` [m]: that of a beam of this length."""
        return self.stiffness / length

    def joint_damping(self, length: float) -> float:
        """Damping [Nm s/rad] of the joint between two links of `length` [m]."""
        return self.relaxation * self.joint_stiffness(length)
