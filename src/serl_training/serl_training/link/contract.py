# SPDX-License-Identifier: Apache-2.0
"""What actor and learner agree on: learning settings, encoder, and the specification of what goes between them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from serl_config.resources import find
from serl_config.schema import ConfigError, load_yaml
from serl_rl.base_action import with_base_action
from serl_rl.config import LearningConfig
from serl_rl.encoders.encoder import Encoder
from serl_rl.encoders.loading import load_encoder
from serl_rl.imported.opening import PolicyError, check_policy, open_policy
from serl_rl.policy.acting_policy import ActingPolicy
from serl_rl.policy.reference import PolicyReference, read_reference
from serl_rl.spec import ArraySpec, DataError, Plausible, TransitionSpec
from serl_robots.model.robot import load_robot

from serl_tasks import Task

LEARNING = "Name in config/learning, or path of a YAML file; empty: the task's own."
"""What the parameter `learning` of nodes means."""

POLICY = "Imported policy KIND:PATH: what learning improves, or with sac.improve none what acts, without a learner."
"""What the parameter `policy` of the actor means."""

MAPPING = "Mapping file of that policy: its cameras, values and actions; empty: mapping.yaml in its folder, or none."
"""What the parameter `mapping` of the actor means."""

SIMULATED = "Whether the cameras look at the task's simulated world; false: at a real one."
"""What the parameter `simulated` of nodes means."""


def load_learning(name: str, task: Task) -> LearningConfig:
    """Load `config/learning/<name>.yaml`, or the file that `name` is the path of; the task's own if it is empty.

    A discount that the task says is that of its agents.

    Raises:
        ConfigError: it is missing, or holds a key or value that it cannot have, or is for another number of arms.
    """
    name = name or task.learning
    path = Path(name) if name.endswith((".yaml", ".yml")) else find(f"config/learning/{name}.yaml")
    config = load_yaml(path, LearningConfig)
    if config.policies == "per_arm" and not task.arms:
        raise ConfigError(
            f"{path}: policies: expected one for {task.name}, which has one arm, found per_arm, for tasks with two"
        )
    if task.discount is None:
        return config
    sac, drqv2 = replace(config.sac, discount=task.discount), replace(config.drqv2, discount=task.discount)
    return replace(config, sac=sac, drqv2=drqv2)


def find_policy(
    text: str, mapping: str, task: Task, config: LearningConfig, *, simulated: bool = False
) -> ActingPolicy | None:
    """The imported policy of a reference, for the observations of a task; None where nothing is named.

    Args:
        text: `KIND:PATH`; empty: none.
        mapping: path of its mapping file; empty: that in its folder, or none.
        task: whose observations it gets.
        config: of the learning, which may improve the policy.
        simulated: whether the cameras look at the task's simulated world, not at a real one.

    Raises:
        PolicyError: it cannot be opened, or not for this task; or the settings improve one, and none is named.
    """
    if not text:
        if config.improves:
            raise PolicyError(
                f"sac.improve: {config.sac.improve}: expected an imported policy, found none; name it by --from-policy "
                "KIND:PATH, or by the parameter policy of the actor"
            )
        return None
    spec = transition_spec(task, without_history(config), None)
    file = Path(mapping).absolute() if mapping else None
    return open_policy(_reference(text), spec, find, mapping=file, world=task.world if simulated else None)


def check_imported(text: str, mapping: str, task: Task, config: LearningConfig) -> None:
    """Look, before anything is started, whether `find_policy` will find the policy; no backend is needed for that.

    Args:
        text: `KIND:PATH`.
        mapping: path of its mapping file; empty: that in its folder, or none.
        task: whose observations it gets.
        config: of the learning.

    Raises:
        PolicyError: its files cannot be read, or it is not for this task.
    """
    spec = transition_spec(task, without_history(config), None)
    check_policy(_reference(text), spec, mapping=Path(mapping).absolute() if mapping else None)


def _reference(text: str) -> PolicyReference:
    try:
        return read_reference(text)
    except DataError as error:
        raise PolicyError(str(error)) from error


def find_encoder(task: Task, config: LearningConfig, *, simulated: bool = False) -> Encoder | None:
    """The encoder for the task's cameras, None if it has no cameras.

    Args:
        task: whose cameras.
        config: of the learning.
        simulated: whether the cameras look at the task's simulated world, not at a real one.

    Raises:
        EncoderError: its file is missing, damaged or of another shape, or the shipped one was trained for another
            world or other cameras.
    """
    if not task.cameras:
        return None
    return load_encoder(config.vision.encoder, tuple(task.cameras), find, world=task.world if simulated else None)


def transition_spec(task: Task, config: LearningConfig, encoder: Encoder | None) -> TransitionSpec:
    """What the actor sends and the learner stores: pictures, or the features that a frozen encoder makes.

    Raises:
        ConfigError: the file of the robot cannot be used.
    """
    plausible = Plausible(vector=task.plausible_state, reward=task.plausible_reward)
    spec, history = _shapes(task, config, encoder), config.acting.history
    observation = dict(spec.observation)
    for name in spec.vector_names:
        observation[name] = ArraySpec((history * observation[name].elements,), "float32")
    spec = replace(spec, observation=observation, meaning=meaning_of(task, history), plausible=plausible)
    return with_base_action(spec) if config.improves else spec


def without_base(config: LearningConfig) -> LearningConfig:
    """The settings under which no imported policy stands beside what is observed."""
    return replace(config, sac=replace(config.sac, improve="none"))


def without_history(config: LearningConfig) -> LearningConfig:
    """The settings under which vectors are those of one moment, as environments give them and recorded files hold."""
    return replace(without_base(config), acting=replace(config.acting, history=1))


def meaning_of(task: Task, history: int = 1) -> dict[str, Any]:
    """Everything that gives the numbers of a task a meaning, as `TransitionSpec` keeps it.

    Args:
        task: whose numbers.
        history: values that an observation holds of each of the state, the newest first, as `acting.history` says.

    Raises:
        ConfigError: the file of the robot cannot be used.
    """
    robot, meaning = load_robot(task.robot), task.meaning
    state = list(meaning["state"])
    for age in range(1, history):
        state += [value | {"name": f"{value['name']} {age} before"} for value in meaning["state"]]
    return {**meaning, "state": state, "base_frame": robot.base_frame, "tcp_frame": robot.tcp_frame}


def _shapes(task: Task, config: LearningConfig, encoder: Encoder | None) -> TransitionSpec:
    spaces = (task.observation_space, task.action_space)
    if encoder is None:
        return TransitionSpec.from_spaces(*spaces)
    vision = config.vision
    if not vision.encoder.caches_features:
        return TransitionSpec.from_spaces(*spaces, frame_stack=vision.frame_stack)
    observation = {
        name: ArraySpec((vision.encoder.views, *encoder.feature_shape(*view.shape[:2])), "float16")
        for name, view in task.cameras.items()
    }
    flat = TransitionSpec.from_spaces(*spaces).observation
    observation |= {name: entry for name, entry in flat.items() if name not in task.cameras}
    return TransitionSpec(observation, len(task.action), encoder.hash, vision.frame_stack)
