# SPDX-License-Identifier: Apache-2.0
"""What can be said about a success rate after a number of episodes."""

from __future__ import annotations

import math


def wilson_interval(successes: int, episodes: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Wilson's score interval of a success rate (Wilson 1927); z = 1.96 gives 95 %.

    Without an episode nothing is known: (0, 1). Raises ValueError for more successes than episodes.
    """
    if not 0 <= successes <= episodes:
        raise ValueError(f"successes: expected 0 to {episodes}, found {successes}")
    if episodes == 0:
        return 0.0, 1.0
    rate = successes / episodes
    denominator = 1.0 + z**2 / episodes
    centre = (rate + z**2 / (2 * episodes)) / denominator
    half_width = z * math.sqrt(rate * (1.0 - rate) / episodes + z**2 / (4 * episodes**2)) / denominator
    low = 0.0 if successes == 0 else max(0.0, centre - half_width)
    high = 1.0 if successes == episodes else min(1.0, centre + half_width)
    return low, high


def difference_interval(before: tuple[int, int], after: tuple[int, int]) -> tuple[float, float]:
    """95 % interval of a difference of two success rates, `after` minus `before`, by Wilson's intervals of each.

    That is method 10 of Newcombe 1998 (Stat. Med. 17, 873-890), for episodes that do not depend on each other.

    Args:
        before: successes and episodes.
        after: the same.

    Raises:
        ValueError: more successes than episodes, or no episode.
    """
    if not (before[1] and after[1]):
        raise ValueError(f"expected an episode before and one after, found {before[1]} and {after[1]}")
    (low_before, high_before), (low_after, high_after) = wilson_interval(*before), wilson_interval(*after)
    rate_before, rate_after = before[0] / before[1], after[0] / after[1]
    difference = rate_after - rate_before
    return (
        difference - math.hypot(rate_after - low_after, high_before - rate_before),
        difference + math.hypot(high_after - rate_after, rate_before - low_before),
    )


def needed_successes(episodes: int, goal: float) -> int:
    """The smallest number of successes whose rate over `episodes` is at least `goal`."""
    # 0.95 * 20 is 19.000000000000004 in binary; a rate that is equal but for rounding counts as reached.
    return math.ceil(goal * episodes - 1e-9)


def out_of_reach(successes: int, done: int, total: int, goal: float) -> bool:
    """Whether the rate over `total` episodes stays below `goal` even if all that are not `done` succeed.

    Raises ValueError unless 0 <= successes <= done <= total.
    """
    if not 0 <= successes <= done <= total:
        raise ValueError(f"expected 0 <= successes <= done <= total, found {successes}, {done}, {total}")
    return successes + total - done < needed_successes(total, goal)
