# SPDX-License-Identifier: Apache-2.0
"""Recordings converted, described and checked, from the command line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from serl_config.atomic_files import write_whole
from serl_config.text import printable
from serl_launch.errors import CommandError, Interrupted
from serl_launch.runs import Run, read_config
from serl_recording.convert import Selection
from serl_recording.convert import convert as convert_episodes
from serl_recording.episode import Episode
from serl_recording.raw_bag import reindex
from serl_recording.registry import FORMATS, ReadSettings, WriteSettings, format_of, open_recording
from serl_recording.sketch import Sketch
from serl_recording.survey import Survey
from serl_rl.spec import ArraySpec

from serl_cli.report.recording_page import render

_MOST_LINES = 50


def convert(
    source: Path,
    target: Path,
    *,
    to: str,
    pictures: str,
    successes: bool,
    demonstrations: bool,
    without: frozenset[str],
    task: str,
    rate: float | None,
) -> None:
    """Converts a recording and says what came of it.

    Raises:
        RecordingError: it cannot be read or written.
        CommandError: something damaged was left out; everything complete is there.
        Interrupted: a person pressed Ctrl-C.
    """
    console = Console(stderr=True)
    try:
        with console.status(f"reading {printable(source)}") as status:
            done = convert_episodes(
                source,
                target,
                to,
                reading=ReadSettings(rate, task or _task_of(source)),
                writing=WriteSettings(pictures),
                selection=Selection(successes, demonstrations, without),
                progress=lambda so_far: status.update(f"{so_far.episodes} episodes, {so_far.steps} steps"),
            )
    except KeyboardInterrupt:
        raise Interrupted(f"conversion interrupted; there is no {target}, and {source} is as it was") from None
    passed = f", {done.passed} not selected" if done.passed else ""
    print(
        f"{printable(target)}: {FORMATS[done.target].title} with {done.episodes} episodes, {done.successes} of them "
        f"successful, {done.steps} steps{passed}; read as {FORMATS[done.source].title}"
    )
    if done.damaged:
        raise CommandError(
            f"{source}: {len(done.damaged)} damaged or unfit pieces were left out", details=_bounded(done.damaged)
        )


def info(path: Path, rate: float | None) -> None:
    """Prints what a recording holds.

    Raises:
        RecordingError: it cannot be read.
    """
    survey, damage = _survey(path, rate)
    for name, text in _rows(path, survey).items():
        print(f"{name:12} {printable(text)}")
    if survey.lengths:
        _show_actions(survey)
    for line in _bounded(damage):
        print(f"damaged: {line}")


def plot(path: Path, out: Path, rate: float | None) -> None:
    """Draws a recording as a picture, or as a page with everything that `info` and `check` say.

    Args:
        path: of the recording.
        out: PNG or HTML, by its suffix.
        rate: control steps per second [Hz], where the recording does not say it.

    Raises:
        RecordingError: it cannot be read.
        CommandError: there is no complete episode, or `out` cannot be written.
    """
    from serl_cli.report import recording_figure

    reader = open_recording(path, ReadSettings(rate, _task_of(path)))
    sketch = Sketch(reader.spec)
    survey, damage = _survey(path, rate, sketch.add)
    if not survey.lengths:
        raise CommandError(f"{path}: expected episodes to draw, found none", details=_bounded(damage))
    drawn = recording_figure.draw(sketch, printable(path.absolute().name))
    if out.suffix == ".html":
        found = _bounded([*damage, *survey.conclude()])
        rows = _rows(path, survey)
        drawn = render(path.absolute().name, list(rows.items()), found, drawn).encode()
    try:
        write_whole(out, drawn)
    except OSError as error:
        raise CommandError(f"{out}: cannot be written: {error.strerror}") from error
    print(f"{printable(out)}: {len(survey.lengths)} episodes, {survey.steps} steps of {printable(path)}")


def make_whole(folder: Path) -> None:
    """Gives the files of a bag of topics the index that they lack, and says what is in them.

    Raises:
        RecordingError: there is no bag, or it cannot be written.
        CommandError: something in it was damaged and left out.
    """
    done = reindex(folder)
    mended = f"; {', '.join(done.mended)} got an index" if done.mended else ""
    print(f"{printable(folder)}: {done.messages} messages in {done.files} files{printable(mended)}")
    if done.damaged:
        raise CommandError(f"{folder}: was damaged", details=_bounded(done.damaged))


def _rows(path: Path, survey: Survey) -> dict[str, str]:
    """What a recording holds, in words."""
    spec, seconds = survey.spec, survey.steps / survey.spec.rate
    stamps = "measured" if survey.stamped else "none"
    if survey.intervals:
        stamps += f", median rate {1 / max(float(np.median(survey.intervals)), 1e-9):.3g} Hz"
    rows = {
        "format": FORMATS[format_of(path)].title,
        "task": spec.task or "not said",
        "rate": f"{spec.rate:g} Hz; stamps: {stamps}",
        "observation": ", ".join(f"{name} {each.dtype} {each.shape}" for name, each in _entries(survey)),
        "episodes": f"{len(survey.lengths)}: {survey.successes} successful, {survey.terminated} terminated, "
        f"{survey.truncated} truncated, {survey.demonstrations} demonstrations",
        "steps": f"{survey.steps} ({seconds:.0f} s), {100 * survey.led / max(survey.steps, 1):.0f} % led by a person",
    }
    if survey.lengths:
        lengths = survey.lengths
        rows["length"] = f"{min(lengths)} to {max(lengths)} steps, median {np.median(lengths):g}"
        rows["return"] = f"{min(survey.returns):g} to {max(survey.returns):g}, mean {np.mean(survey.returns):.3g}"
    return rows


def check(path: Path, rate: float | None) -> None:
    """Prints what is wrong with a recording.

    Raises:
        RecordingError: it cannot be read.
        CommandError: something is wrong.
    """
    survey, damage = _survey(path, rate)
    found = [*damage, *survey.conclude()]
    for line in _bounded(found):
        print(line)
    if found:
        raise CommandError(f"{path}: {len(found)} things are wrong in {len(survey.lengths)} episodes")
    print(f"{printable(path)}: nothing wrong in {len(survey.lengths)} episodes, {survey.steps} steps")


def _survey(
    path: Path, rate: float | None, also: Callable[[Episode], None] = lambda _: None
) -> tuple[Survey, list[str]]:
    damage: list[str] = []
    with Console(stderr=True).status(f"reading {printable(path)}"):
        reader = open_recording(path, ReadSettings(rate, _task_of(path)))
        survey = Survey(reader.spec)
        for episode in reader.episodes(lambda error: damage.append(str(error))):
            survey.add(episode)
            also(episode)
    return survey, damage


def _task_of(path: Path) -> str:
    """The task that a run was of; empty for recordings that are no runs."""
    run = Run(path)
    plan = read_config(run).get("plan") if run.config_file.is_file() and run.journal.is_dir() else None
    return str(plan.get("task", "")) if isinstance(plan, dict) else ""


def _entries(survey: Survey) -> list[tuple[str, ArraySpec]]:
    return list(survey.spec.transitions.observation.items())


def _show_actions(survey: Survey) -> None:
    table = Table("action", "from", "to", "at a bound")
    for index, name in enumerate(survey.spec.action_names):
        low, high = survey.actions.low[index], survey.actions.high[index]
        share = survey.saturated[index] / survey.steps
        table.add_row(printable(name), f"{low:.3g}", f"{high:.3g}", f"{100 * share:.0f} %")
    Console().print(table)


def _bounded(lines: list[str]) -> list[str]:
    more = [f"and {len(lines) - _MOST_LINES} more"] if len(lines) > _MOST_LINES else []
    return [printable(line) for line in lines[:_MOST_LINES]] + more
