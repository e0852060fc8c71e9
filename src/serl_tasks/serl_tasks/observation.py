# SPDX-License-Identifier: Apache-2.0
"""The state vector of a task: named terms, shifted and scaled by constants to about unit range.

What terms there are is in `state_terms`. A term may be listed more than once, with other constants: coarse and fine.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from serl_config.schema import ConfigError, Field, config, suggestion

from serl_tasks.episode_errors import ErrorSettings
from serl_tasks.state_terms import (
    ARM_TERMS,
    LAST_ACTION,
    WRENCH_TERMS,
    Moment,
    Term,
    last_action_term,
    object_terms,
    terms_of_arms,
)


@config(kw_only=True)
class StateTerm:
    """One entry of the state vector: ``(value - shift) / scale``."""

    name: str
    shift: tuple[float, ...] = Field(description="middle of the range, for each value")
    scale: tuple[float, ...] = Field(description="half of the range, for each value")
    clip: float | None = Field(default=None, gt=0.0, description="largest magnitude of what comes out of that")


class StateVector:
    """Turns what is known into the state vector of a task.

    Attributes:
        size: number of values.
        observed_objects: names of the objects whose poses it takes.
        observes_wrench: whether it takes the wrench.
    """

    def __init__(
        self, terms: Sequence[StateTerm], objects: Sequence[str], action_size: int, arms: Sequence[str] = ()
    ) -> None:
        """Prepare the vector of `terms`, in their order, for a world with `objects` and actions (action_size,).

        `arms` are the prefixes of the arms where there are several.

        Raises:
            ConfigError: a term is unknown, or its constants have the wrong length or a scale is not positive.
        """
        self._arguments = terms, objects, action_size, arms
        known = {**(terms_of_arms(arms, objects) if arms else ARM_TERMS), LAST_ACTION: last_action_term(action_size)}
        for name in objects if not arms else ():
            known |= object_terms(name)
        object_of = {term: name for name in objects for term in object_terms(name)}
        names = [term.name.rpartition("/")[2] if arms else term.name for term in terms]
        observed = {object_of[name] for name in names if name in object_of}
        self.observed_objects = tuple(name for name in objects if name in observed)
        self.observes_wrench = any(term.name in WRENCH_TERMS for term in terms)
        self._terms: list[tuple[StateTerm, Term]] = []
        for term in terms:
            if term.name not in known:
                raise ConfigError(f"state: unknown term {term.name!r}" + suggestion(term.name, [*known]))
            size = known[term.name].size or len(term.shift)  # of joints as many as there are
            if len(term.shift) != size or len(term.scale) != size:
                raise ConfigError(
                    f"state: {term.name!r} has {size} values; "
                    f"found {len(term.shift)} of shift, {len(term.scale)} of scale"
                )
            if not all(scale > 0.0 for scale in term.scale):
                raise ConfigError(f"state: {term.name!r}: expected positive scales, found {list(term.scale)}")
            self._terms.append((term, known[term.name]))
        self._sources = [term.source for _, term in self._terms]
        self._shift = np.array([value for term in terms for value in term.shift])
        self._scale = np.array([value for term in terms for value in term.scale])
        self.size = len(self._shift)
        bounds = self._spread([np.inf if term.clip is None else term.clip for term in terms])
        self._bounds = bounds if np.isfinite(bounds).any() else None

    def __reduce__(self) -> Any:
        return StateVector, self._arguments  # its sources are functions without a name

    def noise(self, errors: ErrorSettings) -> NDArray[np.float64] | None:
        """Standard deviation of each scaled value, (size,); None where nothing is noisy.

        Raises:
            ConfigError: a term is said to be noisy that is not in the vector.
        """
        given = errors.observation_noise
        if isinstance(given, dict):
            for name in given:
                if all(term.name != name for term, _ in self._terms):
                    names = [term.name for term, _ in self._terms]
                    raise ConfigError(
                        f"errors.observation_noise: {name!r} is no term of 'state'" + suggestion(name, names)
                    )
            deviations = self._spread([given.get(term.name, 0.0) for term, _ in self._terms])
        else:
            deviations = self._spread([given if term.measured else 0.0 for _, term in self._terms])
        return deviations if deviations.any() else None

    def __call__(self, moment: Moment, noise: NDArray[np.float64] | None = None) -> NDArray[np.float32]:
        """State vector float32 (size,), to whose scaled values `noise` (size,) is added."""
        raw = np.concatenate([source(moment) for source in self._sources])
        values = (raw - self._shift) / self._scale
        if noise is not None:
            values += noise
        if self._bounds is not None:
            values = np.clip(values, -self._bounds, self._bounds)
        return values.astype(np.float32)

    def _spread(self, of_terms: Sequence[float]) -> NDArray[np.float64]:
        """A value for each value of the vector, (size,), from one for each term."""
        return np.repeat(np.array(of_terms, np.float64), [len(term.shift) for term, _ in self._terms])
