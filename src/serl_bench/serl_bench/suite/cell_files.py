# SPDX-License-Identifier: Apache-2.0
"""What is known of a finished cell: one small JSON file each, whole or not there."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from serl_config.files import FileError, read_bytes
from serl_config.strict_json import JsonError, parse_json
from serl_launch.errors import CommandError
from serl_launch.runs import write_atomically

from serl_bench.suite.plan import Cell

FORMAT = 1
_LARGEST = 2**20  # [bytes]


@dataclass(frozen=True)
class Evaluation:
    """One evaluation while a policy learns. One whose goal had gone out of reach was broken off."""

    env_steps: int
    episodes: int
    success_rate: float
    seconds: float  # since the start of the graph


@dataclass(frozen=True)
class Stretch:
    """What happened in the training episodes that ended between two points of the grid of evaluations."""

    env_steps: int  # of the run at its end
    episodes: int
    steps: int
    led_steps: int  # in which a person led
    untouched: int  # episodes in which nobody led
    untouched_successes: int


@dataclass(frozen=True)
class Final:
    """Evaluation of the last policy on starts of its own; never broken off."""

    episodes: int
    successes: int
    mean_length: float  # [control steps] of the successful episodes; 0 without one

    @property
    def success_rate(self) -> float:
        """Share of the episodes that succeeded, in [0, 1]."""
        return self.successes / self.episodes


@dataclass(frozen=True)
class Training:
    """How the learning went."""

    reached: bool  # an evaluation reached the goal
    env_steps: int  # at the end, which is the evaluation that reached the goal if one did
    wall_seconds: float  # from the start of the graph to the end of the training
    interventions: float  # share of the training's env steps that the person led
    evaluations: tuple[Evaluation, ...]
    course: tuple[Stretch, ...] = ()  # in order; empty in files from before it was kept


@dataclass(frozen=True)
class CellResult:
    """A finished cell: what it found, or why it found nothing."""

    cell: Cell
    settings_hash: str
    code_hash: str
    final: Final | None = None
    training: Training | None = None  # None for the teacher
    failure: str = ""  # one line; empty: none
    system: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a cell that neither failed nor found anything, which would be a hole in the table."""
        if bool(self.failure) == (self.final is not None):
            raise ValueError(f"cell {self.cell.name}: expected either a final evaluation or the reason why not")


def write_cell(folder: Path, result: CellResult) -> None:
    """Writes the file of a cell in one step. Raises CommandError where it cannot be written."""
    text = json.dumps({"format": FORMAT, **asdict(result)}, indent=1, allow_nan=False)
    write_atomically(_file(folder, result.cell), text + "\n")


def read_cell(folder: Path, cell: Cell) -> CellResult | None:
    """The result of a cell, None while there is none.

    Raises:
        CommandError: the file is damaged, of another format, or of another cell.
    """
    path = _file(folder, cell)
    if not path.exists():
        return None
    try:
        values = parse_json(read_bytes(path, _LARGEST), size=_LARGEST)
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise ValueError(f"expected format {FORMAT}")
        result = _from_json(values)
    except (FileError, JsonError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CommandError(f"{path} is no result of a cell: {error}; delete it to run the cell again") from error
    if result.cell != cell:
        raise CommandError(f"{path}: expected the cell {cell.name}, found {result.cell.name}; delete the file")
    return result


def _from_json(values: dict[str, Any]) -> CellResult:
    training, final = values.pop("training"), values.pop("final")
    if training is not None:
        evaluations = tuple(Evaluation(**each) for each in training.pop("evaluations"))
        course = tuple(Stretch(**each) for each in training.pop("course", ()))
        training = Training(**training, evaluations=evaluations, course=course)
    return CellResult(
        cell=Cell(**values.pop("cell")), training=training, final=Final(**final) if final else None, **values
    )


def _file(folder: Path, cell: Cell) -> Path:
    return folder / f"{cell.name}.json"
