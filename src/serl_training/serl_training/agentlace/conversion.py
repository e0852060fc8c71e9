# SPDX-License-Identifier: Apache-2.0
"""Transitions of a script of SERL, made chunks of episodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from numpy.typing import NDArray
from serl_recording.serl_transition import SerlTransition, leads_to, read_transition
from serl_rl.encoders.frames import FrameEncoder
from serl_rl.foreign.serl.agent import put_actor
from serl_rl.policy.snapshot import PolicySnapshot
from serl_rl.spec import DataError, TransitionSpec
from serl_rl.storage.chunk import Chunk
from serl_rl.storage.nested import nested

from serl_training.actor.rollout import ChunkBuilder, ChunkFormat, StepOutcome
from serl_training.env.episode import EpisodeMode, EpisodeStart, Observation

LONGEST: Final = 32
"""Transitions of a chunk."""


class ScriptTransitions:
    """Makes chunks of what one client sends.

    An episode ends where `dones` says so, and where an observation is not what the transition before led to. `masks`
    say whether it terminated; a script that leaves them out means that every end terminates.
    """

    def __init__(
        self,
        spec: TransitionSpec,
        pictures: TransitionSpec,
        encoder: FrameEncoder | None,
        *,
        actor_id: str,
        next_episode: Callable[[], int],
        demonstration: bool = False,
    ) -> None:
        """Begin with nothing.

        Args:
            spec: of what the learner stores.
            pictures: the same with pictures in place of features, as scripts send them.
            encoder: that makes features of pictures, where `spec` has features.
            actor_id: of the transitions.
            next_episode: gives the number of another episode.
            demonstration: whether they are demonstrations.
        """
        self._encoder, self._next_episode = encoder, next_episode
        self._actions = spec.action_dim
        self._expected, self._format = pictures.observation, ChunkFormat(spec, actor_id, size=LONGEST)
        self._mode = EpisodeMode.DEMONSTRATION if demonstration else EpisodeMode.TRAINING
        self._cameras = [name for name, entry in spec.observation.items() if entry.kind == "features"]
        self._builder: ChunkBuilder | None = None
        self._last: SerlTransition | None = None

    def convert(self, items: Sequence[Any]) -> tuple[list[Chunk], list[str]]:
        """Chunks of items, in order, and why others were left out."""
        chunks: list[Chunk] = []
        refused: list[str] = []
        for begin in range(0, len(items), LONGEST):
            self._convert(items[begin : begin + LONGEST], chunks, refused)
        return chunks, refused

    def _convert(self, items: Sequence[Any], chunks: list[Chunk], refused: list[str]) -> None:
        try:
            chunks += self._built(items)
        except DataError as error:
            self._builder = None
            if len(items) == 1:
                refused.append(str(error))
            else:  # one of them is bad: each by itself
                for item in items:
                    self._convert([item], chunks, refused)

    def _built(self, items: Sequence[Any]) -> list[Chunk]:
        chunks: list[Chunk] = []
        for item in items:
            found = read_transition(item, "transition")
            if found.action.shape != (self._actions,):
                raise DataError("actions", f"shape {(self._actions,)}", f"shape {found.action.shape}")
            if found.mask not in (None, 0.0, 1.0):
                raise DataError("masks", "0 or 1", f"{found.mask:g}")
            if self._builder is not None and self._last is not None and not leads_to(self._last, found):
                self._cut(chunks)
                self._builder = None
            if self._builder is None:
                start = EpisodeStart(self._mode, self._next_episode(), 0)
                self._builder = ChunkBuilder(self._observation(found.observation), start, self._format)
            chunk = self._builder.add(_outcome(found), self._observation(found.following))
            if chunk is not None:
                chunks.append(chunk)
            self._last = found
            if found.done:
                self._builder = None
        self._cut(chunks)
        return chunks

    def _cut(self, chunks: list[Chunk]) -> None:
        chunk = None if self._builder is None else self._builder.flush()
        if chunk is not None:
            chunks.append(chunk)

    def _observation(self, found: dict[str, NDArray[Any]]) -> Observation:
        expected = self._expected
        if missing := expected.keys() - found.keys():
            raise DataError(
                "observations", f"entries {sorted(expected)}", f"{sorted(found)}, without {sorted(missing)}"
            )
        observation = {name: found[name] for name in expected}
        for name, entry in expected.items():
            if observation[name].shape != entry.shape or observation[name].dtype.name != entry.dtype:
                rows = observation[name]
                raise DataError(f"observations.{name}", f"{entry.dtype} {entry.shape}", f"{rows.dtype} {rows.shape}")
        if self._encoder is None:
            return observation
        return observation | self._encoder.encode({name: found[name] for name in self._cameras})


def script_parameters(policy: PolicySnapshot) -> tuple[dict[str, Any], str]:
    """What scripts are given of a policy, and why that is not what SERL's have.

    Returns:
        Dictionaries of dictionaries of float32 arrays: `modules_actor` as in SERL's agent, and "" with it; where
        that has no such network, the arrays by our own names, and what is different.
    """
    try:
        return nested(put_actor(policy)), ""
    except DataError as error:
        return nested(policy.arrays), f"{error.field}: expected {error.expected}, found {error.found}"


def _outcome(found: SerlTransition) -> StepOutcome:
    terminated = found.done if found.mask is None else found.mask == 0.0
    return StepOutcome(
        executed=found.action,
        reward=found.reward,
        terminated=terminated,
        truncated=found.done and not terminated,
        intervention=found.led,
        version=0,
        success=found.done and (found.reward > 0.0 if found.succeeded is None else found.succeeded),
    )
