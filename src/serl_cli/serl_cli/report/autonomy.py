# SPDX-License-Identifier: Apache-2.0
"""How far a policy got without a person at the end of its training, as the metrics of a run tell it."""

from collections.abc import Mapping

from serl_launch.runs import Run
from serl_training.learner.run_log import read_metrics

_PREFIX = "autonomy/"


def numbers(run: Run) -> dict[str, float]:
    """For programs: the newest of the metrics `autonomy/...`, without that prefix; empty where there are none.

    Raises:
        RunLogError: the metrics of the run cannot be read.
    """
    metrics = {name: series for name, series in read_metrics(run.path).items() if name.startswith(_PREFIX)}
    # What is not in the newest message is not known any more: of success alone, when somebody led in each episode.
    newest = max((series.wall_time[-1] for series in metrics.values()), default=0.0)
    return {
        name.removeprefix(_PREFIX): float(series.value[-1])
        for name, series in metrics.items()
        if series.wall_time[-1] == newest
    }


def describe(values: Mapping[str, float]) -> str:
    """For people: the same in one line.

    Args:
        values: as `numbers` returns them, not empty.
    """
    alone = f", {values['success_alone']:.0%} of those succeed" if "success_alone" in values else ""
    rise = ""
    if "return_of_help" in values:
        value, low, high = (100.0 * values[f"return_of_help{end}"] for end in ("", "_low", "_high"))
        rise = f"; after help success without it was {value:+.0f} points different [{low:+.0f}, {high:+.0f}]"
    return (
        f"the last {values['episodes']:.0f} training episodes: a person led in {values['led_steps']:.0%} of the steps, "
        f"{values['untouched']:.0%} of the episodes nobody touched{alone}; "
        f"{values['episode_length']:.0f} steps an episode{rise}"
    )
