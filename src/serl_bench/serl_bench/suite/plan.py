# SPDX-License-Identifier: Apache-2.0
"""What a suite consists of, and the hashes by which it is noticed that something has changed since a cell was made."""

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from serl_config.resources import find, listing
from serl_config.schema import read_yaml, suggestion
from serl_launch.errors import UsageError
from serl_robots.control.robot_limits import completed
from serl_robots.control.task_file import read_task

from serl_bench.suite.settings import FRESH, HELPED, RLPD, TEACHER, Setting, find_setting, person_values
from serl_tasks import get_task, task_names

TASKS = (
    "insert_peg", "insert_connector", "route_cable", "relocate_forward", "relocate_backward", "open_drawer",
    "flip_object",
)  # fmt: skip
"""The suite, each from state; ``<task>_vision`` is the same from two cameras."""
VISION = "_vision"
ANCHOR = ("pick_cube", "pick_cube_vision")
"""Tasks that are easy: what fails on these is broken."""
SETTINGS = ("rlpd", "rlpd+interventions", "bc-20", "bc-100", "hg-dagger", TEACHER)
QUICK_SETTINGS = ("rlpd", "bc-20", TEACHER)
FIRST_SEED = 100
"""Smaller ones are for tuning."""
_CODE = (
    "serl_config", "serl_ros", "serl_robots", "serl_tasks", "serl_cameras", "serl_sim", "serl_rl", "serl_teleop",
    "serl_training",
)  # fmt: skip
_DIGITS = 12


@dataclass(frozen=True)
class Cell:
    """One training, or the teacher's evaluation."""

    task: str
    setting: str
    seed: int

    @property
    def name(self) -> str:
        """Name of its file and of its run; shorter than the limit of a file's name for any task that we could have."""
        return f"{self.task}.{self.setting}.{self.seed}"


@dataclass(frozen=True)
class SuitePlan:
    """Everything that was decided before the start."""

    tasks: tuple[str, ...]
    settings: tuple[str, ...]
    seeds: tuple[int, ...]
    max_env_steps: int = 15_000
    eval_every: int = 250  # [env steps]
    eval_episodes: int = 50
    goal: float = 0.95
    confirm: int = 3  # further evaluations that have to reach it before a training ends: its policy is judged once more
    final_episodes: int = 50  # with the last policy, on starts that no training has seen
    timeout: float = 900.0  # [s] for a training, and for an evaluation
    warm_up: bool = True  # fill the compile cache before the first cell of what compiles alike

    def __post_init__(self) -> None:
        """Refuse what nobody can run.

        Raises:
            UsageError: there is no such task or setting, or one stands there twice.
        """
        for what, values in (("task", self.tasks), ("setting", self.settings), ("seed", self.seeds)):
            if not values:
                raise UsageError(f"no {what} is left to run: name at least one")
            twice = sorted({str(value) for value in values if values.count(value) > 1})
            if twice:
                raise UsageError(f"{what} {', '.join(twice)} is named twice")
        unknown = [task for task in self.tasks if task not in task_names()]
        if unknown:
            raise UsageError(f"no task {', '.join(unknown)}{suggestion(unknown[0], task_names())}")
        for setting in self.settings:
            find_setting(setting)

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Seed by seed, so that a suite that is broken off has something of everything."""
        return tuple(Cell(t, s, seed) for seed in self.seeds for t in self.tasks for s in self.settings)

    def setting(self, cell: Cell) -> Setting:
        """The setting of a cell."""
        return find_setting(cell.setting)

    def learns_online(self, setting: str) -> bool:
        """Whether env steps of its own teach a setting anything."""
        return find_setting(setting).learns_online

    def settings_hash(self, cell: Cell) -> str:
        """Hash of all that was decided about a cell: its plan, the task with what it extends, the learning settings.

        Descriptions and comments in these files do not count, neither do the other cells.
        """
        setting = self.setting(cell)
        task = {key: value for key, value in completed(read_task(cell.task)).items() if key != "description"}
        plan = {key: value for key, value in asdict(self).items() if key not in ("tasks", "settings", "seeds")}
        content: dict[str, Any] = {"cell": asdict(cell), "plan": plan, "task": task}
        if setting.learning != TEACHER:
            content["setting"] = asdict(setting)
            if content["setting"].pop("person") != FRESH:
                content["person"] = person_values(setting.person)
            content["learning"], _ = read_yaml(listing("config/learning", ".yaml")[setting.learning_of(cell.task)])
        return hash_of(content)

    def changes(self, before: Mapping[str, Any]) -> list[str]:
        """What is planned differently from an earlier plan, as ``to_json`` has it; a line each."""
        now = self.to_json()
        return [f"{key}: {before.get(key)} → {now[key]}" for key in now if before.get(key) != now[key]]

    def to_json(self) -> dict[str, Any]:
        """Plain values by the names of the fields."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "SuitePlan":
        """The plan that ``to_json`` wrote.

        Raises:
            ValueError: a field is missing or unknown.
        """
        names = {field.name for field in fields(cls)}
        if values.keys() != names:
            raise ValueError(f"expected the fields {', '.join(sorted(names))}, found {', '.join(sorted(values))}")
        plain: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
        return cls(**plain)


def default_tasks(*, vision: bool = True) -> tuple[str, ...]:
    """The tasks of the suite that there are, behind the easy ones; each from state and from cameras."""
    wanted = [name for task in TASKS for name in (task, task + VISION)]
    known = task_names()
    return tuple(n for n in (*ANCHOR, *wanted) if n in known and (vision or not n.endswith(VISION)))


METAWORLD = "metaworld-"
METAWORLD_SETTINGS = ("rlpd", "bc-20")


def compiles_as(task: str) -> str:
    """What names the tasks whose agents need no compilation after those of `task`; Meta-World's have one mapping."""
    return METAWORLD if task.startswith(METAWORLD) else task


def metaworld_plan(tasks: tuple[str, ...] = (), seeds: int = 1) -> SuitePlan:
    """The plan for Meta-World's tasks: 10,000 control steps at most, next to cloning of the same 20 demonstrations.

    Args:
        tasks: as ``assembly`` or ``assembly-v3``; empty: all fifty.
        seeds: of each, from `FIRST_SEED`.

    Raises:
        UsageError: there is no such task, or one stands there twice.
    """
    known = [name for name in task_names() if name.startswith(METAWORLD)]
    wanted = [METAWORLD + task.removeprefix(METAWORLD).removesuffix("-v3") + "-v3" for task in tasks]
    return SuitePlan(
        tasks=tuple(wanted or known),
        settings=METAWORLD_SETTINGS,
        seeds=tuple(range(FIRST_SEED, FIRST_SEED + seeds)),
        max_env_steps=10_000,
        eval_every=500,
        timeout=1_800.0,
    )


HELP_TASKS = ("pick_cube",)
HELP_DEMONSTRATIONS = (0, 1, 5, 20)
HELP_SEEDS = 3
HELP_ENV_STEPS = 6_000


def interventions_plan(
    tasks: tuple[str, ...] = (),
    demonstrations: tuple[int, ...] = (),
    *,
    person: str = FRESH,
    seeds: int = 0,
    max_env_steps: int = 0,
    quick: bool = False,
) -> SuitePlan:
    """The plan that says what demonstrations and interventions are worth: each number of them with and without help.

    Args:
        tasks: to learn; empty: `HELP_TASKS`.
        demonstrations: numbers of them; empty: `HELP_DEMONSTRATIONS`, quick 0 and 1.
        person: who helps: a file of ``config/people``.
        seeds: of each, from `FIRST_SEED`; 0: `HELP_SEEDS`, quick 1.
        max_env_steps: after which a training gives up; 0: `HELP_ENV_STEPS`, quick 300.
        quick: see that it works; its numbers say nothing.

    Raises:
        UsageError: there is no such task or person, or something stands there twice.
    """
    helper = HELPED if person == FRESH else person
    counts = demonstrations or (HELP_DEMONSTRATIONS[:2] if quick else HELP_DEMONSTRATIONS)
    plan = SuitePlan(
        tasks=tasks or HELP_TASKS,
        settings=tuple(f"{RLPD}-{count}{end}" for count in counts for end in ("", f"+{helper}")),
        seeds=tuple(range(FIRST_SEED, FIRST_SEED + (seeds or (1 if quick else HELP_SEEDS)))),
        max_env_steps=HELP_ENV_STEPS,
        confirm=1,
    )
    if quick:
        plan = replace(plan, max_env_steps=300, eval_every=150, eval_episodes=2, final_episodes=2, warm_up=False)
    return replace(plan, max_env_steps=max_env_steps) if max_env_steps else plan


def hash_of(content: Any) -> str:
    """Short hash of plain values; the order of keys does not count."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


@cache
def code_hash(task: str) -> str:
    """Hash of the source that makes a training of `task`, of its robot and of its world."""
    described = get_task(task)
    files = [find("launch/sim.launch.xml")]
    files += [find(f"config/{folder}/{name}.yaml") for folder, name in _described_by(described)]
    for package in _CODE:
        spec = importlib.util.find_spec(package)
        places = spec.submodule_search_locations if spec is not None else None
        files += sorted(file for place in places or [] for file in Path(place).rglob("*.py"))
    whole = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        whole.update(f"{file.name} {len(content)} ".encode() + content)
    return whole.hexdigest()[:_DIGITS]


def _described_by(task: Any) -> list[tuple[str, str]]:
    if task.kind == "gym":
        return [("robots", task.robot)]  # neither its world nor its cameras are ours
    return [("robots", task.robot), ("worlds", task.world), *(("cameras", camera) for camera in task.cameras)]
