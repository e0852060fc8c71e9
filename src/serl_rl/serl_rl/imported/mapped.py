# SPDX-License-Identifier: Apache-2.0
"""Acting on a task by a foreign policy: its inputs are made of the task's observations, its outputs become actions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serl_rl.imported.mapping import FACTORS, MappedValue, PolicyMapping, mapping_error_hint
from serl_rl.policy.acting_policy import ForeignPolicy
from serl_rl.spec import DataError, TransitionSpec

GRIPPER = "gripper"
_TOOL = ("dx", "dy", "dz", "rx", "ry", "rz")
_JOINTS = "joint_positions"
_STATE = "state"
_HELD = "gripper_target[0]"
_SAME = 1e-6

Observation = Mapping[str, NDArray[Any]]


class MappedPolicy:
    """A foreign policy as an `ActingPolicy` of a task."""

    def __init__(self, policy: ForeignPolicy, spec: TransitionSpec, mapping: PolicyMapping) -> None:
        """Put the policy in front of a task.

        Args:
            policy: as its own stack has it.
            spec: of the task's observations as its environment gives them: `state` and pictures, with their meaning.
            mapping: what stands between the two.

        Raises:
            DataError: an input cannot be made of what the task observes, or its actions are none that the task takes;
                names the input or component, and what there is.
        """
        self._policy, self._spec, self._mapping = policy, spec, mapping
        for known, what in ((mapping.cameras, "cameras"), (mapping.vectors, "vectors")):
            if unknown := sorted(set(known) - set(policy.inputs)):
                raise DataError(f"mapping.{what}", mapping_error_hint(policy.inputs), ", ".join(unknown))
        self._inputs = {name: self._input(name, shape) for name, shape in policy.inputs.items()}
        self._action = _ActionMap(policy.outputs, spec, mapping)
        self._steps = 0

    @property
    def action_dim(self) -> int:
        """Number of action components A of the task."""
        return self._spec.action_dim

    @property
    def planned(self) -> int:
        """Actions that it will execute before it looks again."""
        if not self._mapping.execute:
            return self._policy.planned
        return min(self._policy.planned, max(self._mapping.execute - self._steps, 0))

    def check(self, spec: TransitionSpec) -> None:
        """Raise DataError unless `spec` is the one that it was made for."""
        if not self._spec.agrees(spec):
            raise DataError("policy", "one of the same task", f"another: {self._spec.difference(spec)}")

    def reset(self) -> None:
        """Forget what was planned."""
        self._steps = 0
        self._policy.reset()

    def act(
        self, observation: Observation, *, deterministic: bool, rng: np.random.Generator | None = None
    ) -> NDArray[np.float32]:
        """The policy's best action as one of the task, (A,) in [-1, 1]; a foreign policy does not explore.

        Raises:
            DataError: the policy gives something else than as many finite numbers as it should.
        """
        del deterministic, rng
        if self._mapping.execute and self._steps >= self._mapping.execute:
            self.reset()
        self._steps += 1
        inputs = {name: make(observation) for name, make in self._inputs.items()}
        output = np.asarray(self._policy.act(inputs), np.float64)
        if output.shape != (self._policy.outputs,) or not np.isfinite(output).all():
            raise DataError("policy", f"{self._policy.outputs} finite numbers", f"{output}")
        return self._action(output, observation)

    def _input(self, name: str, shape: tuple[int, ...]) -> Callable[[Observation], NDArray[Any]]:
        return self._picture(name, shape) if len(shape) == 3 else self._vector(name, shape)

    def _picture(self, name: str, shape: tuple[int, ...]) -> Callable[[Observation], NDArray[Any]]:
        pictures = {entry: array for entry, array in self._spec.observation.items() if array.kind == "image"}
        named = self._mapping.cameras.get(name)
        camera = named or name.rpartition(".")[2]
        if camera not in pictures:
            raise DataError(f"cameras.{name}", f"a camera of the task: {mapping_error_hint(pictures)}", camera)
        found = pictures[camera].shape
        if found == tuple(shape):
            return lambda observation: observation[camera]
        if named is None or found[2] != shape[2]:
            expected = f"pictures {tuple(shape)}; name the camera in the mapping file to have its pictures resized"
            raise DataError(f"cameras.{name}", expected, f"{found} of {camera}")
        import cv2

        size = (shape[1], shape[0])
        return lambda observation: cv2.resize(observation[camera], size, interpolation=cv2.INTER_AREA)

    def _vector(self, name: str, shape: tuple[int, ...]) -> Callable[[Observation], NDArray[Any]]:
        values = self._mapping.vectors.get(name)
        state = _state_values(self._spec)
        if values is None:
            if shape != (len(state),):
                expected = f"{shape}; say in the mapping file which values it takes"
                raise DataError(f"vectors.{name}", expected, f"a state of {len(state)} values")
            return lambda observation: observation[_STATE]
        if shape != (len(values),):
            raise DataError(f"vectors.{name}", f"{shape[0]} values", str(len(values)))
        rows = [_from_state(name, value, state) for value in values]
        index = np.array([row[0] for row in rows])
        factor, offset = (np.array([row[place] for row in rows]) for place in (1, 2))
        return lambda observation: (observation[_STATE][index] * factor + offset).astype(np.float32)


class _ActionMap:
    """Makes an action of the task of the policy's output."""

    def __init__(self, outputs: int, spec: TransitionSpec, mapping: PolicyMapping) -> None:
        described = list(spec.meaning.get("action", ()))
        names = [str(value["name"]) for value in described] or [str(index) for index in range(spec.action_dim)]
        scales = [float(value["scale"]) for value in described] or [1.0] * spec.action_dim
        components = mapping.components or tuple(MappedValue(name=name) for name in names)
        _check_kind(mapping.actions, names)
        if len(components) != outputs:
            raise DataError("actions", f"{outputs} components, as the policy gives", _words(components))
        if sorted(each.name for each in components) != sorted(names):
            raise DataError("actions", f"the components of the task: {', '.join(names)}", _words(components))
        self._stay = _gripper_that_stays(components, names, scales, spec)
        self._joints: NDArray[np.intp] | None = None
        self._place = np.array([names.index(each.name) for each in components])
        rows = [_to_action(each, scales[names.index(each.name)], mapping.actions) for each in components]
        self._factor, self._shift = (np.array([row[place] for row in rows]) for place in (0, 1))
        if mapping.actions == _JOINTS:
            self._joints, self._gain, self._zero = _observed_joints(components, names, spec)
            self._arm = np.array([place for place, each in enumerate(components) if each.name != GRIPPER])

    def __call__(self, output: NDArray[np.float64], observation: Observation) -> NDArray[np.float32]:
        values = output * self._factor + self._shift
        if self._joints is not None:  # values are positions / scale; what is observed is subtracted in the same unit
            values[self._arm] -= observation[_STATE][self._joints] * self._gain + self._zero
        if self._stay is not None and abs(output[self._stay.output] - self._stay.number) < _SAME:
            values[self._stay.output] = observation[_STATE][self._stay.place] * self._stay.gain + self._stay.zero
        action = np.empty(len(values), np.float32)
        action[self._place] = np.clip(values, -1.0, 1.0)
        return action


def _words(components: Sequence[MappedValue]) -> str:
    return ", ".join(each.name for each in components) or "none"


def _check_kind(actions: str, names: Sequence[str]) -> None:
    """Raise DataError unless the task's actions are of the kind that the policy gives."""
    arm = [name for name in names if name != GRIPPER]
    of_tool = all(name in _TOOL for name in arm)
    if actions == "tool_deltas" and not of_tool:
        raise DataError("actions", "tool_deltas of a task whose actions are those", ", ".join(names))
    if actions in ("joint_deltas", _JOINTS) and (of_tool or not arm):
        raise DataError("actions", f"{actions} of a task whose actions move joints", ", ".join(names))


def _to_action(component: MappedValue, scale: float, actions: str) -> tuple[float, float]:
    """Factor and shift from the policy's number to the task's component in [-1, 1]."""
    inverse, shift = 1.0 / _nonzero(component), -component.offset / component.scale
    if component.unit == "task":
        if actions == _JOINTS and component.name != GRIPPER:
            raise DataError(f"components.{component.name}", "the unit of the joint: rad or deg", "task")
        return inverse, shift
    inverse, shift = inverse / FACTORS[component.unit], shift / FACTORS[component.unit]
    if component.name != GRIPPER:
        if component.unit in ("one", "percent"):
            raise DataError(f"components.{component.name}", "a unit of length or angle, or task", component.unit)
        return inverse / scale, shift / scale
    # An absolute width: -1 closed, +1 open as far as the task's scale.
    widest = 1.0 if component.unit in ("one", "percent") else scale
    return 2.0 * inverse / widest, 2.0 * shift / widest - 1.0


class _Stay(NamedTuple):
    """A gripper that may stay: the output and its number, and how the observed command becomes an action."""

    output: int
    number: float
    place: int
    gain: float
    zero: float


def _gripper_that_stays(
    components: Sequence[MappedValue], names: Sequence[str], scales: Sequence[float], spec: TransitionSpec
) -> _Stay | None:
    found = [(place, each) for place, each in enumerate(components) if each.stay is not None]
    for place, each in found:
        if each.name != GRIPPER:
            raise DataError(f"components.{each.name}.stay", "none: it is of a gripper", str(each.stay))
        state, widest = _state_values(spec), scales[names.index(GRIPPER)]
        if _HELD not in state:
            raise DataError(f"components.{each.name}.stay", f"a task that observes {_HELD}", mapping_error_hint(state))
        index, shift, scale = state[_HELD]
        return _Stay(place, float(each.stay or 0.0), index, 2.0 * scale / widest, 2.0 * shift / widest - 1.0)
    return None


def _observed_joints(
    components: Sequence[MappedValue], names: Sequence[str], spec: TransitionSpec
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """Places of the joints' positions in the state, and gain and zero that make them positions / scale of actions."""
    state, scales = _state_values(spec), [float(value["scale"]) for value in spec.meaning["action"]]
    arm = [name for name in names if name != GRIPPER]
    index, gain, zero = [], [], []
    for each in components:
        if each.name == GRIPPER:
            continue
        wanted = f"{_JOINTS}[{arm.index(each.name)}]"
        if wanted not in state:
            raise DataError("actions", f"a task that observes {wanted}, for joint_positions", mapping_error_hint(state))
        place, shift, scale = state[wanted]
        action_scale = scales[names.index(each.name)]
        index.append(place)
        gain.append(scale / action_scale)
        zero.append(shift / action_scale)
    return np.array(index), np.array(gain), np.array(zero)


def _state_values(spec: TransitionSpec) -> dict[str, tuple[int, float, float]]:
    """Place, shift and scale of each value of the task's state, by its name."""
    if described := spec.meaning.get(_STATE):
        return {
            str(value["name"]): (place, float(value["shift"]), float(value["scale"]))
            for place, value in enumerate(described)
        }
    count = spec.observation[_STATE].elements if _STATE in spec.observation else 0
    return {f"{_STATE}[{place}]": (place, 0.0, 1.0) for place in range(count)}


def _from_state(
    vector: str, value: MappedValue, state: Mapping[str, tuple[int, float, float]]
) -> tuple[int, float, float]:
    """Place in the state, and factor and offset that make the policy's number of it."""
    if value.name not in state:
        raise DataError(f"vectors.{vector}", f"values of the state: {mapping_error_hint(state)}", value.name)
    place, shift, scale = state[value.name]
    if value.unit == "task":
        return place, value.scale, value.offset
    factor = FACTORS[value.unit] * value.scale
    return place, scale * factor, shift * factor + value.offset


def _nonzero(component: MappedValue) -> float:
    if component.scale == 0.0:
        raise DataError(f"components.{component.name}", "a scale other than 0", "0")
    return component.scale
