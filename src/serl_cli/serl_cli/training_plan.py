# SPDX-License-Identifier: Apache-2.0
"""What a person decides about a training, and which of it may change when a run is continued."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal

from serl_config.optional import missing
from serl_config.resources import listing
from serl_config.schema import ConfigError, Field, build, config, nearest, read_yaml
from serl_config.strict_yaml import YamlError, parse_yaml
from serl_config.text import printable
from serl_drivers.config import driver_names
from serl_launch.errors import UsageError
from serl_launch.needs import refuse_missing
from serl_rl.backends import BackendError, check_backend, check_devices
from serl_rl.config import LearningConfig
from serl_rl.devices import DeviceError
from serl_rl.foreign.initial import InitialWeights
from serl_rl.imported.initial import read_initial
from serl_rl.imported.opening import PolicyError
from serl_rl.policy.reference import read_reference
from serl_rl.reward.classifier_file import read_classifier
from serl_rl.spec import DataError
from serl_tasks.pair import PairError, check_pair
from serl_training.link.contract import check_imported, transition_spec
from serl_training.reward.reward_frames import check_source, frame_source

from serl_cli.names import check_task
from serl_cli.ranges import LARGEST_COUNT, MOST_ACTORS, MOST_CONFIRMATIONS
from serl_tasks import get_task

# What may change when a run is continued; the rest is in the data already.
CHANGEABLE = frozenset(
    {"max_steps", "goal", "confirm", "eval_every", "eval_episodes", "rtf", "viewer", "teleop", "wandb", "actors"}
)
_DEEPEST_KEY = 8
DEFAULT_IMPROVE = "proposals"
ACT = "act"  # the learning that makes an ACT policy of demonstrations, and has no file
_SHOWN = {"task": "TASK", "settings": "--set", "partner": "--with"}


@config(kw_only=True)
class TrainingPlan:
    """Everything a person decides about a training, under the names of the command line's options."""

    task: str
    seed: int = Field(ge=0, le=LARGEST_COUNT)
    demos: int = Field(ge=0, le=LARGEST_COUNT)
    demo_file: str  # taken instead of recording; empty: record
    max_steps: int = Field(ge=1, le=LARGEST_COUNT)  # online env steps after which to give up
    eval_every: int = Field(ge=1, le=LARGEST_COUNT)  # [env steps]
    eval_episodes: int = Field(ge=1, le=LARGEST_COUNT)
    goal: float = Field(ge=0.0, le=1.0)  # success rate of an evaluation that ends the training
    interventions: bool
    rtf: float = Field(ge=0.0)  # real-time factor; 0: lockstep
    learning: str  # name of a file in config/learning
    settings: tuple[str, ...]  # KEY=VALUE, on top of it
    viewer: bool
    reward: Literal["truth", "classifier", "human"] = "truth"  # who judges
    classifier: str = ""  # file of the classifier that judges
    confirm: int = Field(default=0, ge=0, le=MOST_CONFIRMATIONS)  # further evaluations that have to reach the goal
    teleop: str = "scripted"  # who leads: the scripted person, a device, or none
    partner: str = ""  # task that undoes it, learned by turns with it; empty: none
    hardware: Literal["simulated", "emulated", "real"] = "simulated"  # what the arm is
    person: str = "fresh"  # what is human about the scripted person: name of a file in config/people
    wandb: str = ""  # project of Weights & Biases that gets its numbers, too; empty: none
    from_policy: str = ""  # KIND:PATH of the imported policy that is improved; empty: none
    mapping: str = ""  # its mapping file; empty: that in its folder, or none
    init_from: str = ""  # KIND:PATH of the weights that its agent began with; empty: none
    prior: tuple[str, ...] = ()  # RUN:WEIGHT of the runs whose data are drawn beside demonstrations
    policy_fingerprint: str = ""  # of its files, when the run was begun
    actors: int = Field(default=1, ge=1, le=MOST_ACTORS)  # simulated arms that collect for one learner at once

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that are learned: one, or two that take turns."""
        return (self.task, self.partner) if self.partner else (self.task,)


def is_act(plan: TrainingPlan) -> bool:
    """Whether a run makes an ACT policy of demonstrations."""
    return plan.learning == ACT


def check_partner(plan: TrainingPlan) -> None:
    """Refuses two tasks that cannot be learned by turns, and options that are for one task alone.

    Raises:
        UsageError: says which, and why.
        ConfigError: the file of a task is wrong.
    """
    if not plan.partner:
        return
    check_task(plan.partner)
    try:
        check_pair(get_task(plan.task), get_task(plan.partner))
    except PairError as error:
        raise UsageError(f"--with {plan.partner}: {error}") from error
    if plan.demo_file:
        raise UsageError("--demo-file is for one task: two that take turns record demonstrations of both")
    if plan.reward == "classifier":
        raise UsageError(
            "--reward classifier is for one task: start two with ./serl launch sim.launch.xml and a file for each, "
            "classifier:= and partner_classifier:="
        )


def check_teleop(teleop: str, rtf: float) -> None:
    """Refuses a person who cannot follow the world.

    Raises:
        UsageError: --teleop names a device, and the world runs as fast as it can.
    """
    if teleop not in ("scripted", "none") and rtf == 0.0:
        raise UsageError(f"--teleop {teleop}: nobody can lead in a world that runs as fast as it can; add --rtf 1")


def check_arms(task: str, *, teleop: str = "scripted", hardware: str = "simulated", page: bool = False) -> None:
    """Refuses what is for one arm where a task has two.

    Args:
        task: its name.
        teleop: who leads.
        hardware: what the arm is.
        page: whether the operator's console is served.

    Raises:
        UsageError: says which option is for one arm, and what to do.
        ConfigError: the file of a task is wrong.
    """
    if not get_task(task).arms:
        return
    for option, given in (
        (f"--teleop {teleop}", teleop not in ("scripted", "none")),
        (f"--hardware {hardware}", hardware != "simulated"),
        ("--console", page),
    ):
        if given:
            raise UsageError(
                f"{option} is for one arm, and {task} has two: leave it out; the scripted person leads both"
            )


def check_actors(plan: TrainingPlan, *, page: bool = False) -> None:
    """Refuses what is for one arm where several collect.

    Args:
        plan: says how many.
        page: whether the operator's console is served.

    Raises:
        UsageError: says which option is for one arm, and what to do.
    """
    if plan.actors == 1:
        return
    for option, given in (
        (f"--with {plan.partner}", bool(plan.partner)),
        ("--demo-file", bool(plan.demo_file)),
        (f"--teleop {plan.teleop}", plan.teleop not in ("scripted", "none")),
        (f"--hardware {plan.hardware}", plan.hardware != "simulated"),
        (f"--reward {plan.reward}", plan.reward == "human"),
        ("--viewer", plan.viewer),
        ("--console", page),
        (f"--learning {ACT}", is_act(plan)),
    ):
        if given:
            raise UsageError(
                f"{option} is for one arm, and --actors {plan.actors} starts several simulated ones: leave one of the "
                "two out; real arms are joined by ./serl launch fleet_arm.launch.xml"
            )


def check_hardware(plan: TrainingPlan) -> TrainingPlan:
    """The plan in the time of the clock on the wall, where an arm has a driver; refuses what an arm does not have.

    Raises:
        UsageError: says which option does not fit --hardware, and what to do.
        ConfigError: the file of a task or a driver is wrong.
    """
    if plan.hardware == "simulated":
        return plan
    check_driver(plan.task, plan.hardware)
    option = f"--hardware {plan.hardware}"
    if plan.partner or plan.viewer or plan.rtf not in (0.0, 1.0):
        raise UsageError(f"{option} has neither --with, nor --viewer, nor a --rtf of its own")
    if plan.hardware == "real" and (plan.teleop == "scripted" or plan.reward == "truth"):
        raise UsageError(
            f"{option}: nobody knows the truth there: choose who leads, --teleop, and who judges, --reward classifier "
            "or human"
        )
    return replace(plan, rtf=1.0)


def check_driver(task: str, hardware: str) -> None:
    """Refuses `--hardware` for a task whose robot has no driver, or whose emulator is not installed.

    Raises:
        UsageError: says what there is, or what brings it.
        ConfigError: the file of the task or of the driver is wrong.
    """
    robot, known = get_task(task).robot, driver_names()
    if robot not in known:
        raise UsageError(
            f"--hardware {hardware}: no driver {robot!r} in config/drivers, where there are {', '.join(known)}"
            + nearest(robot, known)
        )
    refuse_missing({"driver": robot, "hardware": hardware})


def check_person(plan: TrainingPlan) -> None:
    """Refuses a scripted person where none leads: the option would change nothing.

    Raises:
        UsageError: there is no person of this name, or --teleop names somebody else; says what to leave out.
    """
    person_settings(plan.person)
    if plan.teleop != "scripted":
        who = "nobody leads" if plan.teleop == "none" else "a person of flesh and blood leads"
        raise UsageError(
            f"--person {plan.person} is about the scripted person, but with --teleop {plan.teleop} {who}: "
            "leave out one of the two"
        )


def person_settings(name: str) -> Path:
    """The parameter file of a scripted person. Raises UsageError where there is none of this name."""
    known = listing("config/people", ".yaml")
    if name not in known:
        raise UsageError(f"no person {name!r}: there are {', '.join(known) or 'none'}{nearest(name, [*known])}")
    return known[name]


def check_reward(plan: TrainingPlan) -> None:
    """Refuses a judge that cannot judge this training.

    Raises:
        UsageError: --reward, --classifier and --rtf do not fit each other.
        ClassifierError: the classifier's file is damaged.
        DataError: it is for another task, other cameras or other crops.
    """
    if bool(plan.classifier) != (plan.reward == "classifier"):
        raise UsageError("--reward classifier and --classifier FILE belong together")
    if plan.reward == "human" and plan.rtf == 0.0:
        raise UsageError("--reward human: nobody can follow a world that runs as fast as it can; add --rtf 1")
    if plan.classifier:
        info, _ = read_classifier(Path(plan.classifier))
        check_source(plan.classifier, info.source, frame_source(get_task(plan.task), info.source.stages))


def resolve_learning(name: str, settings: Sequence[str]) -> dict[str, Any]:
    """The learning configuration with the person's changes, checked.

    Raises:
        UsageError: there is no such configuration, or a change is not KEY=VALUE with a known key and a possible value.
        ConfigError: the configuration itself is wrong.
    """
    known = listing("config/learning", ".yaml")
    if name not in known:
        raise UsageError(
            f"no learning configuration {name!r}: there are {', '.join(known) or 'none'}{nearest(name, [*known])}"
        )
    values, _ = read_yaml(known[name])
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not key or not separator:
            raise UsageError(f"--set {printable(setting, 80)}: expected KEY=VALUE")
        *parents, last = key.split(".")
        if len(parents) > _DEEPEST_KEY:
            raise UsageError(f"--set {printable(setting, 80)}: no key has more than {_DEEPEST_KEY} dots")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise UsageError(f"--set {printable(setting, 80)}: {parent} is a value, it has no {last}")
        try:
            place[last] = parse_yaml(text, f"--set {printable(setting, 80)}")
        except YamlError as error:
            raise UsageError(str(error)) from error
    try:
        build(LearningConfig, values, f"--set on {name}.yaml")
    except ConfigError as error:
        if settings:
            raise UsageError(str(error)) from error
        raise
    return values


def check_installed(plan: TrainingPlan, learning: Mapping[str, Any]) -> None:
    """Refuses what needs an optional package that is not installed.

    Args:
        plan: names who leads, and the project of Weights & Biases.
        learning: the learning configuration, as of `resolve_learning`.

    Raises:
        UsageError: names the package and what brings it.
    """
    refuse_missing({"teleop": plan.teleop})
    try:
        check_backend(learning.get("backend", "jax"))
        if learning.get("devices", 1) != 1 and not is_act(plan):
            check_devices(build(LearningConfig, dict(learning), "devices"))
    except (BackendError, DeviceError) as error:
        raise UsageError(str(error)) from error
    if plan.wandb and (line := missing(f"--wandb {plan.wandb}", ["wandb"], "wandb")):
        raise UsageError(f"{line}; --wandb '' goes on without")


def check_policy(plan: TrainingPlan, learning: dict[str, Any]) -> TrainingPlan:
    """The plan with the fingerprint of the imported policy; lets the learning settings improve it where they do not.

    Args:
        plan: names the policy, or none.
        learning: the learning configuration, as of `resolve_learning`; where `sac.improve` is none it becomes
            proposals.

    Raises:
        UsageError: there is no such policy, or none for the task, the settings cannot improve one, or improve one and
            none is named.
    """
    improve = (learning.get("sac") or {}).get("improve", "none")
    if not plan.from_policy:
        if improve != "none":
            raise UsageError(f"sac.improve={improve} improves an imported policy: name it by --from-policy KIND:PATH")
        if plan.mapping:
            raise UsageError("--mapping is for an imported policy: name it by --from-policy KIND:PATH")
        return plan
    if plan.partner:
        raise UsageError("--from-policy is for one task: two that take turns are not improved from a policy")
    try:
        reference = read_reference(plan.from_policy)
    except DataError as error:
        raise UsageError(f"--from-policy: {error}") from error
    if improve == "none":
        learning["sac"] = (learning.get("sac") or {}) | {"improve": DEFAULT_IMPROVE}
    try:
        config = build(LearningConfig, learning, f"--from-policy {reference}")
        check_imported(str(reference), plan.mapping, get_task(plan.task), config)
        fingerprint = reference.fingerprint  # last: a wrong folder may hold everything
    except (ConfigError, PolicyError, DataError) as error:
        raise UsageError(str(error)) from error
    return replace(plan, from_policy=str(reference), policy_fingerprint=fingerprint)


def check_initial(plan: TrainingPlan, learning: dict[str, Any]) -> InitialWeights | None:
    """The weights that an agent begins with, or None; gives the learning settings the networks that they need.

    Args:
        plan: names the weights, or none.
        learning: the learning configuration, as of `resolve_learning`, which gets their settings.

    Raises:
        UsageError: there are no such weights, they are for another agent or task, or a setting contradicts them.
        ConfigError: the file of the task or of its robot cannot be used.
    """
    if not plan.init_from:
        return None
    if plan.partner:
        raise UsageError("--init-from is for one task: two that take turns do not begin with the same weights")
    if plan.from_policy:
        raise UsageError("--init-from and --from-policy exclude each other: the first goes on with a learner's weights")
    try:
        weights = read_initial(read_reference(plan.init_from))
    except DataError as error:
        raise UsageError(f"--init-from: {error}") from error
    what, agent = f"--init-from {plan.init_from}", weights.agent
    if (found := learning.get("agent", LearningConfig().agent)) != agent:
        raise UsageError(f"{what}: expected learning settings of agent {agent}, found {found}: add --learning {agent}")
    said = {setting.partition("=")[0] for setting in plan.settings}
    own = dict(learning.get(agent) or {})
    for name, value in weights.network.items():
        if f"{agent}.{name}" in said and own[name] != value:
            raise UsageError(f"{what}: its networks need {agent}.{name}={value}, found {own[name]}: leave --set out")
    own |= {**weights.network} | {
        name: value for name, value in weights.defaults.items() if f"{agent}.{name}" not in said
    }
    learning[agent] = own
    history = (learning.get("acting") or {}).get("history", 1)
    if "acting.history" in said and history != weights.history:
        raise UsageError(f"{what}: it looks at acting.history={weights.history} moments, found {history}")
    learning["acting"] = (learning.get("acting") or {}) | {"history": weights.history}
    if "random_steps" not in said:
        learning["random_steps"] = 0
    try:
        config = build(LearningConfig, learning, what)
    except ConfigError as error:
        raise UsageError(str(error)) from error
    task = get_task(plan.task)
    if task.cameras:
        cameras = ", ".join(task.cameras)
        raise UsageError(
            f"{what}: expected a task without cameras, since it has no eyes, found {plan.task} with {cameras}"
        )
    spec = transition_spec(task, config, None)
    width = sum(spec.observation[name].elements for name in spec.vector_names) // weights.history
    if (width, spec.action_dim) != (weights.state, weights.actions):
        raise UsageError(
            f"{what}: expected a state of {weights.state} values and actions of {weights.actions}, "
            f"found {width} and {spec.action_dim} of {plan.task}"
        )
    return weights


def check_policy_unchanged(plan: TrainingPlan) -> None:
    """Refuses to go on with a run whose imported policy is another one by now.

    Raises:
        UsageError: it is gone, or its files have changed.
    """
    if not plan.from_policy:
        return
    try:
        found = read_reference(plan.from_policy).fingerprint
    except DataError as error:
        raise UsageError(f"the run improves {plan.from_policy}: {error}") from error
    if found != plan.policy_fingerprint:
        raise UsageError(
            f"the run improves {plan.from_policy}, whose files have changed since: expected the fingerprint "
            f"{plan.policy_fingerprint}, found {found}; its stored base actions are those of the other one"
        )


def check_policies(plan: TrainingPlan, learning: Mapping[str, Any]) -> None:
    """Refuses a policy for each arm where there is one arm.

    Args:
        plan: names the tasks.
        learning: the learning configuration, as of `resolve_learning`.

    Raises:
        UsageError: says what to leave out.
        ConfigError: the file of a task is wrong.
    """
    if learning.get("policies") == "per_arm":
        for task in plan.tasks:
            if not get_task(task).arms:
                raise UsageError(f"policies=per_arm is for two arms, and {task} has one: leave it out")


def continued(before: TrainingPlan, wanted: TrainingPlan, given: set[str]) -> TrainingPlan:
    """The plan for going on with a run.

    Args:
        before: what the run was started with.
        wanted: what the command line says now.
        given: options of the command line that the person really gave.

    Raises:
        UsageError: an option differs that must not.
    """
    options = [field.name for field in fields(TrainingPlan) if field.name in given]
    fixed = [name for name in options if name not in CHANGEABLE and getattr(wanted, name) != getattr(before, name)]
    if fixed:
        names = ", ".join(_SHOWN.get(name, f"--{name.replace('_', '-')}") for name in fixed)
        raise UsageError(f"{names} cannot change when a run is continued: its data were made with another value")
    return replace(before, **{name: getattr(wanted, name) for name in options})
