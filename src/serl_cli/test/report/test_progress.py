# SPDX-License-Identifier: Apache-2.0
"""The progress display shows what is known and does not invent the rest."""

import io
import math
from pathlib import Path

import pytest
from rich.console import Console
from serl_cli.report import autonomy
from serl_cli.report.progress import LineDisplay, LiveDisplay, TrainingStatus, duration, make_display
from serl_launch.runs import Run
from serl_training.learner.run_log import RunLog

_AUTONOMY = {
    "autonomy/success_alone": 0.75,
    "autonomy/untouched": 0.2,
    "autonomy/led_steps": 0.3,
    "autonomy/episode_length": 41.6,
    "autonomy/episodes": 20.0,
}


def _full() -> TrainingStatus:
    status = TrainingStatus(3000, 0.95)
    status.update_feedback("training", 1000)
    status.update_metrics(1000, {"train/env_steps_per_s": 100.0, "train/success": 1.0, "autonomy/led_steps": 0.25})
    status.update_metrics(1000, {"learner/updates_per_s": 400.0, "learner/critic_loss": 0.0123})
    status.update_metrics(1000, {"train/policy_lag": 8.0})
    status.update_metrics(1000, {"eval/success_rate": 0.5, "eval/interval_low": 0.37, "eval/interval_high": 0.63})
    return status


def test_everything_is_shown_once_it_is_known() -> None:
    line = _full().line()
    for part in ("training 1000/3000", "100", "400", "0.0123", "50% [37%, 63%] at 1000 (goal 95%)", "25%", "8 steps"):
        assert part in line
    assert "nan" not in line


def test_what_is_not_known_is_left_out() -> None:
    line = TrainingStatus(3000, 0.95).line()
    assert line.startswith("starting 0/3000")
    assert "updates/s" not in line
    assert "nan" not in line


def test_time_left_is_that_to_the_step_limit() -> None:
    assert _full().time_left() == pytest.approx(20.0)
    assert TrainingStatus(3000, 0.95).time_left() is None


def test_training_success_is_a_mean_over_recent_episodes() -> None:
    status = TrainingStatus(100, 1.0)
    for success in (1.0, 0.0, 0.0, 1.0):
        status.update_metrics(1, {"train/success": success})
    assert status.values["train/success"] == 0.5


def test_what_a_person_does_is_shown_only_where_there_is_one() -> None:
    alone = {"train/intervention_rate": 0.0, "autonomy/untouched": 1.0, "autonomy/success_alone": 0.5}
    status = TrainingStatus(100, 1.0)
    status.update_metrics(1, alone)
    assert "untouched" not in status.line()
    helped = TrainingStatus(100, 1.0, helped=True)
    helped.update_metrics(1, alone)
    assert "untouched 100% (50% succeed)" in helped.line()
    for values in ({"train/intervention_rate": 0.1, "autonomy/untouched": 0.9}, alone):  # who came by themselves
        status.update_metrics(2, values)
        assert "untouched" in status.line()


def test_interventions_are_the_share_of_steps_and_not_the_mean_of_episodes() -> None:
    status = TrainingStatus(100, 1.0)
    status.update_metrics(1, {"train/intervention_rate": 0.9, "autonomy/led_steps": 0.3})
    assert "interventions 30%" in status.line()


def test_how_long_episodes_are_is_shown_as_the_mean_of_the_last_ones() -> None:
    status = TrainingStatus(100, 1.0)
    assert "episode length" not in status.line()
    status.update_metrics(1, {"train/episode_length": 7.0, "autonomy/episode_length": 41.6})
    assert "episode length 42 steps" in status.line()


def test_the_return_of_help_is_shown_with_its_interval_while_it_is_known() -> None:
    status = TrainingStatus(100, 1.0, helped=True)
    known = {
        "autonomy/return_of_help": 0.125,
        "autonomy/return_of_help_low": -0.03,
        "autonomy/return_of_help_high": 0.3,
    }
    status.update_metrics(1, {"autonomy/untouched": 0.5, **known})
    assert "return of help +12 [-3, +30] points" in status.line()
    status.update_metrics(2, {"learner/critic_loss": 1.0})
    assert "return of help +12" in status.line()
    status.update_metrics(3, {"autonomy/untouched": 0.5})
    assert "return of help" not in status.line()
    values = {name.removeprefix("autonomy/"): value for name, value in (_AUTONOMY | known).items()}
    assert autonomy.describe(values).endswith(
        "42 steps an episode; after help success without it was +12 points different [-3, +30]"
    )


def test_success_alone_is_not_shown_of_episodes_that_were_all_touched() -> None:
    status = TrainingStatus(100, 1.0, helped=True)
    status.update_metrics(1, {"autonomy/untouched": 0.25, "autonomy/success_alone": 0.8})
    assert "untouched 25% (80% succeed)" in status.line()
    status.update_metrics(2, {"autonomy/untouched": 0.0})
    assert "untouched 0%" in status.line()
    assert "80%" not in status.line()


def test_how_far_a_fleet_gets_alone_is_shown_over_all_arms() -> None:
    status = TrainingStatus(100, 1.0, helped=True)
    status.update_metrics(1, {"autonomy/untouched": 0.25}, "arm_0/actor")
    status.update_metrics(1, {"autonomy/untouched": 0.5}, "fleet")
    status.update_metrics(2, {"autonomy/untouched": 0.75, "train/success": 1.0}, "arm_1/actor")
    assert "untouched 50%" in status.line() and "training success 100%" in status.line()


def test_a_result_has_the_newest_autonomy_alone(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert autonomy.numbers(run) == {}
    with RunLog(tmp_path) as log:
        log.write("actor", 5, {"train/success": 1.0, **_AUTONOMY})
        assert autonomy.numbers(run) == pytest.approx(
            {"success_alone": 0.75, "untouched": 0.2, "led_steps": 0.3, "episode_length": 41.6, "episodes": 20.0}
        )
        assert autonomy.describe(autonomy.numbers(run)) == (
            "the last 20 training episodes: a person led in 30% of the steps, "
            "20% of the episodes nobody touched, 75% of those succeed; 42 steps an episode"
        )
        log.write("actor", 9, {name: value for name, value in _AUTONOMY.items() if name != "autonomy/success_alone"})
    assert "success_alone" not in autonomy.numbers(run)
    assert "nobody touched; 42" in autonomy.describe(autonomy.numbers(run))


def test_a_late_message_does_not_turn_the_counter_back() -> None:
    status = TrainingStatus(100, 1.0)
    status.update_metrics(50, {})
    status.update_metrics(40, {})
    assert status.env_steps == 50


def test_a_file_gets_a_line_for_each_stage_and_evaluation_and_nothing_in_between() -> None:
    output = io.StringIO()
    status = TrainingStatus(100, 1.0)
    with LineDisplay(status, Console(file=output), period=1000.0) as display:
        for step in range(5):
            status.update_feedback("training", step)
            display.update()
        status.update_metrics(5, {"eval/success_rate": 0.1})
        display.update()
    assert len(output.getvalue().splitlines()) == 2
    assert "\x1b" not in output.getvalue()


def test_the_display_suits_the_output() -> None:
    status = TrainingStatus(100, 1.0)
    assert isinstance(make_display(status, Console(file=io.StringIO(), force_terminal=True)), LiveDisplay)
    assert isinstance(make_display(status, Console(file=io.StringIO())), LineDisplay)


def test_the_live_display_draws_the_status() -> None:
    output = io.StringIO()
    with LiveDisplay(_full(), Console(file=output, force_terminal=True, width=100)) as display:
        display.update()
    assert "1000/3000" in output.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00"), (69.6, "1:10"), (3723, "1:02:03"), (None, "–"), (math.inf, "–")]
)
def test_durations_read_like_a_clock(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_several_arms_are_as_fast_together_as_each_of_them_was_last() -> None:
    status = TrainingStatus(1000, 0.95)
    for node, rate in (("arm_0/actor", 10.0), ("arm_1/actor", 7.0), ("arm_0/actor", 20.0)):
        status.update_metrics(100, {"train/env_steps_per_s": rate, "train/success": 0.0}, node)
    assert "env steps/s 27," in status.line()
    assert status.time_left() == pytest.approx(900 / 27)
