# SPDX-License-Identifier: Apache-2.0
"""The learning curve is drawn from whatever a run has recorded."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from serl_cli.report.curve import moving_average, plot_learning_curve
from serl_launch.errors import CommandError
from serl_training.learner.run_log import Series


def _series(values: list[float]) -> Series:
    steps = np.arange(len(values), dtype=np.int64) * 250
    return Series(steps.astype(np.float64), steps, np.asarray(values))


FULL = {
    "eval/success_rate": _series([0.0, 0.5, 1.0]),
    "eval/interval_low": _series([0.0, 0.4, 0.9]),
    "eval/interval_high": _series([0.1, 0.6, 1.0]),
    "eval/episodes": _series([3.0, 50.0, 50.0]),
    "train/episode_return": _series([0.0, 1.0] * 30),
    "train/intervention_rate": _series([0.5] * 60),
    "autonomy/untouched": _series([0.0] * 20 + [0.5] * 40),
    "autonomy/success_alone": _series([0.9] * 40),
    "learner/critic_loss": _series([0.1, 0.01, 0.001]),
    "learner/actor_loss": _series([0.0, -0.5, -1.0]),
}


def test_a_full_run_becomes_a_picture_with_all_its_colours(tmp_path: Path) -> None:
    path = tmp_path / "curve.png"
    plot_learning_curve(FULL, path, title="pick_cube", goal=0.95)
    with Image.open(path) as image:
        assert image.width > 800
        colours = np.asarray(image.convert("RGB")).reshape(-1, 3)
    for line in ((0x1F, 0x6F, 0xB4), (0xD9, 0x73, 0x0D), (0x2B, 0x8A, 0x3E)):
        assert np.any(np.all(colours == line, axis=1))


@pytest.mark.parametrize("helped", [False, True])
def test_autonomy_is_drawn_where_a_person_led(tmp_path: Path, helped: bool) -> None:
    path = tmp_path / "curve.png"
    names = ("train/intervention_rate", "autonomy/untouched", "autonomy/success_alone")
    metrics = {name: FULL[name] if helped else _series([0.0] * 60) for name in names}
    plot_learning_curve(metrics, path, title="pick_cube", goal=0.95)
    with Image.open(path) as image:
        colours = np.asarray(image.convert("RGB")).reshape(-1, 3)
    for line in ((0x1F, 0x6F, 0xB4), (0x2B, 0x8A, 0x3E)):
        assert np.any(np.all(colours == line, axis=1)) == helped


@pytest.mark.parametrize("missing", [*FULL, None])
def test_what_was_not_recorded_leaves_a_panel_empty(tmp_path: Path, missing: str | None) -> None:
    metrics = {name: series for name, series in FULL.items() if missing is not None and name != missing}
    plot_learning_curve(metrics, tmp_path / "curve.png", title="x", goal=0.95)
    assert (tmp_path / "curve.png").stat().st_size > 5000


def test_a_folder_that_is_not_there_is_one_readable_error(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be written"):
        plot_learning_curve(FULL, tmp_path / "nowhere" / "curve.png", title="x", goal=0.95)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.integers(1, 60))
def test_the_moving_average_is_the_mean_of_the_last_values(values: list[float], window: int) -> None:
    expected = [np.mean(values[max(0, end - window) : end]) for end in range(1, len(values) + 1)]
    np.testing.assert_allclose(moving_average(np.asarray(values), window), expected, atol=1e-6)
