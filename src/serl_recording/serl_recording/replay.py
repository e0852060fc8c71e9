# SPDX-License-Identifier: Apache-2.0
"""Whether a recording can be replayed by an arm, and how far what came of it is from what was recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from serl_recording.episode import Episode, RecordingError, RecordingSpec

_OF_CONTROL: Final = ("kind", "robot", "frame", "base_frame", "tcp_frame", "action")
"""What of the meaning of a task's numbers decides where an action moves the tool, and what for."""
_RATE_TOLERANCE: Final = 0.01
_LARGEST_ACTION: Final = 1.0 + 1e-5
_SAME_START: Final = 1e-3
"""Largest difference of a normalized value of the state between equal starts. Simulated ones of one seed are equal, two
of other seeds are not."""
_POSITIONS: Final = ("tcp_position", "tcp_position_from_start")


@dataclass(frozen=True)
class Outcome:
    """An episode that was replayed, beside the recorded one.

    number, actor: of the recorded episode
    recorded, replayed: steps
    recorded_success, replayed_success: whether each succeeded
    start: largest difference of a value of the state in the beginning, normalized; None: the two states share none
    path: (k,) [m] distance of the tool to where it was, at each moment that both have; None: the states do not say it
    changed: steps in which what was executed is not what was recorded
    led: steps in which a person led
    limits: names of the limits that acted
    seconds: [s] that the replayed steps took, by the arm's clock
    """

    number: int
    actor: str
    recorded: int
    replayed: int
    recorded_success: bool
    replayed_success: bool
    start: float | None
    path: NDArray[np.float64] | None
    changed: int
    led: int
    limits: tuple[str, ...]
    seconds: float

    @property
    def rate(self) -> float:
        """Actions per second [Hz] of the arm's clock, 0 where it stood still."""
        return self.replayed / self.seconds if self.seconds > 0 else 0.0

    @property
    def same_start(self) -> bool:
        """Whether it began where the recorded one did, as far as the state says it."""
        return self.start is None or self.start <= _SAME_START


def check_control(path: Path, found: RecordingSpec, expected: RecordingSpec, *, unchecked: bool = False) -> None:
    """Refuse a recording whose actions are not those of a task, or whose states contradict what it says of them.

    Args:
        path: of the recording.
        found: of the recording.
        expected: of the task.
        unchecked: take one that does not say what its actions mean for one of the task.

    Raises:
        RecordingError: actions have another size, unit, frame or rate, or are of another robot or kind of task; or
            the state has another size than the task's, and is said to be the same.
    """
    if found.transitions.action_dim != expected.transitions.action_dim:
        raise RecordingError(
            f"{path}: expected actions of {expected.transitions.action_dim} values, as {expected.task} has them, found "
            f"{found.transitions.action_dim}"
        )
    if abs(found.rate / expected.rate - 1.0) > _RATE_TOLERANCE:
        raise RecordingError(
            f"{path}: expected {expected.rate:g} actions per second, as {expected.task} has them, found {found.rate:g}"
        )
    widths = [spec.transitions.observation["state"].elements for spec in (expected, found) if _has_state(spec)]
    if len(set(widths)) > 1 and _scales(found) == _scales(expected):
        raise RecordingError(
            f"{path}: state: expected {widths[0]} values, as {expected.task} has them and the recording says, found "
            f"{widths[1]}; it was changed: convert it anew from where it came from"
        )
    ours, theirs = expected.transitions.meaning, found.transitions.meaning
    if "action" not in theirs:
        if unchecked:
            return
        raise RecordingError(
            f"{path}: does not say what its actions mean: give --unchecked if they are those of {expected.task}"
        )
    for name in _OF_CONTROL:
        usual = "base" if name == "frame" else None  # what tasks do not say of themselves
        wanted, there = ours.get(name, usual), theirs.get(name, usual)
        if None not in (wanted, there) and wanted != there:
            raise RecordingError(
                f"{path}: {name}: expected {_shown(wanted)}, as {expected.task} has it, found {_shown(there)}"
            )


def check_actions(path: Path, episode: Episode) -> None:
    """Refuse an episode whose actions no arm may be given.

    Raises:
        RecordingError: one is beyond [-1, 1], or no number.
    """
    beyond = ~(np.abs(episode.action) <= _LARGEST_ACTION)  # NaN, too
    if beyond.any():
        step, component = np.argwhere(beyond)[0]
        raise RecordingError(
            f"{path}: episode {episode.number} of {episode.actor}, step {step}: expected actions in [-1, 1], found "
            f"{episode.action[step, component]:g}"
        )


def distance(
    episode: Episode, spec: RecordingSpec, step: int, state: NDArray[np.float32], expected: RecordingSpec
) -> float | None:
    """How far the tool is from where it was recorded [m]; None where a state does not say where that is.

    Args:
        episode: that is replayed.
        spec: of the recording.
        step: number of actions that were replayed, at most those of the episode.
        state: (k,) that they have led to.
        expected: of the task that is replayed.
    """
    recorded = _state_of(episode.observation, spec)
    off = None if recorded is None else _distances(recorded[step : step + 1], spec, state[np.newaxis], expected)
    return None if off is None else float(off[0])


def compare(
    episode: Episode,
    spec: RecordingSpec,
    states: Sequence[NDArray[np.float32]],
    expected: RecordingSpec,
    executed: Sequence[NDArray[np.float32]],
    *,
    success: bool,
    led: int,
    limits: frozenset[str],
    seconds: float,
) -> Outcome:
    """Compare an episode with what came of its actions.

    Args:
        episode: that was recorded.
        spec: of the recording.
        states: (k,) each, the state at each moment of the replay, one more than actions.
        expected: of the task that was replayed.
        executed: (A,) each, what was executed in each step.
        success: whether the replay succeeded.
        led: steps in which a person led.
        limits: that acted.
        seconds: that the replayed steps took, by the arm's clock [s].
    """
    recorded, replayed = _state_of(episode.observation, spec), np.array(states)
    start = None
    if recorded is not None and _scales(spec) == _scales(expected):
        start = float(np.abs(recorded[0] - replayed[0]).max())
    path = _distances(recorded, spec, replayed, expected)
    actions = episode.action[: len(executed)]
    return Outcome(
        number=episode.number,
        actor=episode.actor,
        recorded=len(episode),
        replayed=len(executed),
        recorded_success=episode.success,
        replayed_success=success,
        start=start,
        path=path,
        changed=int((np.abs(actions - np.array(executed)) > 1e-5).any(axis=1).sum()),
        led=led,
        limits=tuple(sorted(limits)),
        seconds=seconds,
    )


def _state_of(observation: Any, spec: RecordingSpec) -> NDArray[Any] | None:
    return observation["state"] if _has_state(spec) else None


def _has_state(spec: RecordingSpec) -> bool:
    entry = spec.transitions.observation.get("state")
    return entry is not None and entry.kind == "vector"


def _scales(spec: RecordingSpec) -> Any:
    """What the values of the state are; None where nobody says it."""
    return spec.transitions.meaning.get("state")


def _distances(
    recorded: NDArray[Any] | None, spec: RecordingSpec, replayed: NDArray[Any], expected: RecordingSpec
) -> NDArray[np.float64] | None:
    """(k,) [m] between the tool's places in two states (n, k), at each moment that both have; None: nobody says it."""
    if recorded is None:
        return None
    for term in _POSITIONS:
        ways = (_path(recorded, spec, term), _path(replayed, expected, term))
        if ways[0] is not None and ways[1] is not None:
            both = min(len(ways[0]), len(ways[1]))
            return np.linalg.norm(ways[0][:both] - ways[1][:both], axis=1)
    return None


def _path(rows: NDArray[Any], spec: RecordingSpec, term: str) -> NDArray[np.float64] | None:
    """Where the tool was (n, 3) [m], by a term of the state (n, k), whose values have a shift and a scale."""
    meaning, names = _scales(spec), spec.entry_names("state")
    wanted = [f"{term}[{axis}]" for axis in range(3)]
    if not isinstance(meaning, list) or len(meaning) != len(names) or not set(wanted) <= set(names):
        return None
    columns = [names.index(each) for each in wanted]
    try:
        scale = np.array([float(meaning[column]["scale"]) for column in columns])
        shift = np.array([float(meaning[column]["shift"]) for column in columns])
    except (KeyError, TypeError, ValueError):
        return None
    return rows[:, columns] * scale + shift


def _shown(value: Any) -> str:
    if isinstance(value, list):
        parts = [f"{each.get('name')} {each.get('scale')}" if isinstance(each, dict) else str(each) for each in value]
        value = ", ".join(parts)
    return f"{value!s:.200}"
