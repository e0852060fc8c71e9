# SPDX-License-Identifier: Apache-2.0
"""Which components of an action are whose, where the action is that of several arms. Imports no JAX."""

from __future__ import annotations

from serl_rl.spec import DataError, TransitionSpec


def arm_components(spec: TransitionSpec) -> dict[str, tuple[int, ...]]:
    """Places of each arm's components in the action, by the arm's name: actions of several are named `left/dx`.

    Raises:
        DataError: the meaning of the specification names no such actions of two arms or more.
    """
    names = [str(value.get("name", "")) for value in spec.meaning.get("action", ())]
    places: dict[str, tuple[int, ...]] = {}
    for index, name in enumerate(names):
        arm, separator, _ = name.rpartition("/")
        if separator and arm:
            places[arm] = (*places.get(arm, ()), index)
    if len(names) != spec.action_dim or len(places) < 2 or sum(map(len, places.values())) != len(names):
        found = ", ".join(names) or "actions without names"
        raise DataError("policies", "actions of several arms, named as left/dx, for per_arm", found)
    return places


def check_components(components: tuple[tuple[int, ...], ...]) -> int:
    """Number of action components in all; raises DataError unless each is of exactly one of the arms."""
    places = sorted(place for of_arm in components for place in of_arm)
    if places != list(range(len(places))):
        raise DataError("actor arms", "each component of the action once", str([list(each) for each in components]))
    return len(places)
