# SPDX-License-Identifier: Apache-2.0
"""The mapping file: which camera and which values of the state go into a foreign policy, and what its actions are.

```yaml
cameras: {observation.images.front: front}
vectors:
  observation.state:
    - {name: "joint_positions[0]", unit: deg}
    - {name: "gripper_width[0]", unit: mm}
actions: joint_positions
components:
  - {name: j1, unit: deg}
  - {name: gripper, unit: percent}
execute: 10
```
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from serl_rl.config import MAX_CHUNK

Unit = Literal["task", "m", "cm", "mm", "rad", "deg", "one", "percent"]

FACTORS: Mapping[str, float] = {
    "m": 1.0,
    "cm": 1e2,
    "mm": 1e3,
    "rad": 1.0,
    "deg": 180.0 / math.pi,
    "one": 1.0,
    "percent": 1e2,
}
"""What a number in SI units, or a share of 1, is multiplied with."""

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
_Name = Annotated[str, Field(min_length=1, max_length=200)]
_Number = Annotated[float, Field(ge=-1e6, le=1e6)]


@dataclass(frozen=True, config=_STRICT)
class MappedValue:
    """One number of a vector or of an action, between the task and the policy.

    policy's number = scale * (number in `unit`) + offset
    """

    name: _Name
    """Of the task: a value of its state, as `tcp_position[0]`, or a component of its action, as `dx`."""
    unit: Unit = "task"
    """task: as the task's own observations and actions have it, shifted and scaled. Of a gripper that is commanded:
    m, cm or mm for its width, one or percent for the share by which it is open."""
    scale: _Number = 1.0
    offset: _Number = 0.0
    stay: _Number | None = None
    """Number of the policy that leaves a gripper's command unchanged, which the task has to observe as
    `gripper_target[0]`; None where every number is a width."""


@dataclass(frozen=True, config=_STRICT)
class PolicyMapping:
    """What stands between a task and a foreign policy."""

    cameras: Mapping[_Name, _Name] = Field(default_factory=dict)
    """From the policy's pictures to the task's cameras; pictures of another size are resized. A picture that is not
    named here is that of the camera whose name is the last part of its own."""
    vectors: Mapping[_Name, tuple[MappedValue, ...]] = Field(default_factory=dict)
    """The values of each of the policy's vectors. One that is not named here is the task's whole state, as it is."""
    actions: Literal["task", "tool_deltas", "joint_deltas", "joint_positions"] = "task"
    """task: the task's own action, components in [-1, 1]; changes of the tool's pose or of joints in one control
    period; or joint positions, from which the ones that are observed are subtracted."""
    components: tuple[MappedValue, ...] = ()
    """What the policy's outputs are, in order; empty: the task's components, in the task's order and units."""
    execute: Annotated[int, Field(ge=0, le=MAX_CHUNK * 16)] = 0
    """Steps after which it has to look again, whatever it has planned; 0: as the policy wants it."""


def mapping_error_hint(what: Mapping[str, Any]) -> str:
    """Names that there are, for an error: at most ten of them."""
    names = list(what)
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "") if names else "none"
