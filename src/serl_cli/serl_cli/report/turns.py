# SPDX-License-Identifier: Apache-2.0
"""What two tasks that take turns came to, as the actor's results tell it."""

from typing import Any


def numbers(result: Any) -> dict[str, Any]:
    """For programs: episodes and successes of each task, and the resets.

    Args:
        result: of the action `train` or `evaluate`.
    """
    tasks = {tally.task: {"episodes": tally.episodes, "successes": tally.successes} for tally in result.tasks}
    return {"tasks": tasks, "resets": result.resets}


def describe(result: Any) -> str:
    """For people: the same in one line."""
    each = ", ".join(f"{tally.task} {tally.successes} of {tally.episodes}" for tally in result.tasks)
    resets = {0: "nobody reset the world", 1: "the world was reset once"}
    return f"by turns: {each}; {resets.get(result.resets, f'the world was reset {result.resets} times')}"
