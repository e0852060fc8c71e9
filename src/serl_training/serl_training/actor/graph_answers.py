# SPDX-License-Identifier: Apache-2.0
"""The actor's jobs in messages: what a goal asks for, what is told meanwhile, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from serl_interfaces.action import Evaluate, Record, Train
from serl_interfaces.msg import TaskTally
from serl_training.actor.job import EvaluationResult, RecordResult, TrainGoal, TrainResult
from serl_training.actor.pair import Tally

Tell = Callable[..., None]
"""Takes a feedback message, and whether it is to be told at once: ``now``."""


def train_goal(request: Train.Goal) -> TrainGoal:
    """What `request` asks for; none is recorded where there is a file of demonstrations.

    Raises:
        ValueError: a number is out of its range.
    """
    return TrainGoal(
        demonstrations=0 if request.demonstration_file else request.demonstrations,
        max_env_steps=request.max_env_steps,
        eval_every=request.eval_every,
        eval_episodes=request.eval_episodes,
        success_goal=request.success_goal,
        confirmations=request.confirmations,
        seed=request.seed,
    )


def train_feedback(tell: Tell) -> Callable[[str, int, float], None]:
    """Takes stage, env steps and success rate, and tells a new stage at once."""
    stage = ""

    def feedback(new: str, env_steps: int, rate: float) -> None:
        nonlocal stage
        tell(Train.Feedback(stage=new, env_steps=env_steps, success_rate=rate), now=new != stage)
        stage = new

    return feedback


def evaluate_feedback(tell: Tell) -> Callable[[int, int], None]:
    """Tell that it begins; what is returned takes episodes and successes."""
    tell(Evaluate.Feedback(), now=True)
    return lambda episodes, successes: tell(Evaluate.Feedback(episodes=episodes, successes=successes))


def record_feedback(tell: Tell) -> Callable[[int, int], None]:
    """Tell that it begins; what is returned takes successes and attempts."""
    tell(Record.Feedback(), now=True)
    return lambda episodes, attempts: tell(Record.Feedback(episodes=episodes, attempts=attempts))


def train_result(result: TrainResult, tallies: Mapping[str, Tally] | None = None, resets: int = 0) -> Train.Result:
    """Answer with `result`; `tallies` by task and `resets` are those of a pair."""
    return Train.Result(
        success=result.reached,
        termination_reason="goal" if result.reached else "max_env_steps",
        env_steps=result.env_steps,
        env_steps_to_goal=result.env_steps_to_goal,
        success_rate=result.success_rate,
        wall_seconds=result.wall_seconds,
        tasks=_tallies(tallies or {}),
        resets=resets,
    )


def evaluate_result(
    result: EvaluationResult, tallies: Mapping[str, Tally] | None = None, resets: int = 0
) -> Evaluate.Result:
    """Answer with `result`; `tallies` by task and `resets` are those of a pair."""
    return Evaluate.Result(
        success=True,
        termination_reason="done" if result.complete else "out_of_reach",
        episodes=result.episodes,
        successes=result.successes,
        success_rate=result.rate,
        interval_low=result.interval[0],
        interval_high=result.interval[1],
        mean_length=result.mean_length,
        policy_version=result.policy_version,
        discarded=result.discarded,
        tasks=_tallies(tallies or {}),
        resets=resets,
    )


def record_result(result: RecordResult, path: str = "") -> Record.Result:
    """Answer with `result`, which is in the file `path` where one was asked for."""
    return Record.Result(
        success=True,
        termination_reason="done",
        episodes=result.successes,
        attempts=result.attempts,
        transitions=result.transitions,
        path=path,
    )


def _tallies(tallies: Mapping[str, Tally]) -> list[Any]:
    return [TaskTally(task=name, episodes=tally.episodes, successes=tally.successes) for name, tally in tallies.items()]
