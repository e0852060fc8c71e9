# SPDX-License-Identifier: Apache-2.0
"""LeRobot's settings of HIL-SERL, of 0.4 and of 0.3 with its forks, as settings of ours: a rule for each of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from serl_cli.work.foreign.errors import SettingError
from serl_cli.work.foreign.hilserl_reasons import reason_for
from serl_cli.work.foreign.settings import Translation, leaves, number, numbers

Rule = Callable[[Translation, str, Any], None]

_IMAGE = "observation.image"
_WHOLE: Final = frozenset(
    {
        "policy.input_features",
        "policy.output_features",
        "policy.normalization_mapping",
        "policy.dataset_stats",
        "env.features",
        "env.features_map",
        "env.robot.cameras",
        "env.robot.end_effector_bounds",
        "env.processor.image_preprocessing.crop_params_dict",
        "env.processor.inverse_kinematics.end_effector_bounds",
        "env.processor.inverse_kinematics.end_effector_step_sizes",
        "env.robot.end_effector_step_sizes",
        "env.wrapper.crop_params_dict",
        "rename_map",
    }
)
"""Settings that are taken as a whole."""


def translate(settings: Mapping[str, Any], task: Mapping[str, Any], *, skip_unknown: bool) -> Translation:
    """Our settings for those of LeRobot, and what became of each.

    Args:
        settings: of `train_config.json`, `env_config.json` or a `train_hilserl*.json`.
        task: the task that is extended, complete.
        skip_unknown: list settings that nobody knows, instead of refusing them.

    Raises:
        SettingError: a setting is unknown or not what it should be.
    """
    result = Translation(dict(task))
    found = dict(leaves(settings, _WHOLE))
    kind = found.get("policy.type", "sac")
    if not isinstance(kind, str) or kind not in _AGENTS:
        raise SettingError("policy.type", " or ".join(_AGENTS), kind)
    crops = _crops(_camera_sizes(found.get("env.robot.cameras")))
    for path, value in sorted(found.items(), key=_order):
        if path in _CROPS:
            crops(result, path, value)
        elif (rule := _rule(path, kind)) is not None:
            rule(result, path, value)
        elif skip_unknown:
            result.drop(path, value, "unknown here; nothing was done about it")
        else:
            expected = "a setting of LeRobot 0.3 or 0.4 or of its DrQ-v2 fork (--skip-unknown lists it and goes on)"
            raise SettingError(path, expected, value)
    return result


def robot_of(settings: Mapping[str, Any]) -> str:
    """Our name of the robot that the settings name, if it is one of ours; empty: they name none."""
    env = settings.get("env")
    robot = env.get("robot") if isinstance(env, dict) else None
    kind = robot.get("type") if isinstance(robot, dict) else None
    return our_robot(kind) if isinstance(kind, str) else ""


def our_robot(kind: str) -> str:
    """The name in a type of LeRobot's robots, without what kind of follower it is."""
    return kind.removesuffix("_end_effector").removesuffix("_follower")


def _camera_sizes(cameras: Any) -> dict[str, tuple[int, int]]:
    """Width and height of the pictures that the robot's cameras take, by our names, where they are said."""
    sizes = {}
    for name, camera in cameras.items() if isinstance(cameras, dict) else ():
        if isinstance(camera, dict) and all(isinstance(camera.get(key), int) for key in ("width", "height")):
            path = f"env.robot.cameras.{name}"
            width, height = (int(number(f"{path}.{key}", camera[key], 1, 10000)) for key in ("width", "height"))
            sizes[camera_name(name)] = width, height
    return sizes


_CROPS: Final = ("env.processor.image_preprocessing.crop_params_dict", "env.wrapper.crop_params_dict")
_AGENTS: Final = {"sac": "sac", "drqv2": "drqv2"}


def _order(item: tuple[str, Any]) -> tuple[bool, str]:
    """What others need comes first: rates before times, cameras before their crops."""
    first = item[0] in ("policy.type", "env.fps", "policy.input_features", "env.robot.cameras")
    return not first, item[0]


# --- rules ---------------------------------------------------------------------------------------


def _learn(target: str, low: float, high: float, reason: str = "") -> Rule:
    def rule(result: Translation, path: str, value: Any) -> None:
        result.learn(path, value, target, number(path, value, low, high), reason)

    return rule


def _none(reason: str) -> Rule:
    return lambda result, path, value: result.drop(path, value, reason)


def _option(target: str, reason: str = "") -> Rule:
    return lambda result, path, value: (
        result.drop(path, value, "nothing is asked for")
        if value in (None, False, "")
        else result.option(path, value, target.format(value), reason)
    )


def _agent(result: Translation, path: str, value: Any) -> None:
    result.learn(path, value, "agent", _AGENTS[value])
    if value == "drqv2":
        result.learn("(algorithm)", "one-step targets", "drqv2.n_step", 1, "the fork's; RoboBase itself has 3")


def _discrete(result: Translation, path: str, value: Any) -> None:
    if value is None:
        result.drop(path, value, "all components of the action are continuous, as with our sac")
    elif value == 3:
        result.learn(path, value, "agent", "hybrid", "close, stay and open by a critic of their own")
    else:
        raise SettingError(path, "null or 3 (close, stay, open)", value)


def _widths(target: str) -> Rule:
    def rule(result: Translation, path: str, value: Any) -> None:
        if not isinstance(value, list) or not value:
            raise SettingError(path, "a list of widths", value)
        widths = [int(number(path, each, 1, 4096)) for each in value]
        agent, key = target.split(".")
        before = result.learning.get(agent, {}).get(key, widths)
        if before != widths:
            result.drop(path, value, f"actor and critics have the same widths, {target} = {before}")
        else:
            result.learn(path, value, target, widths)

    return rule


def _vision(result: Translation, path: str, value: Any) -> None:
    if value is None:
        result.learn(path, value, "vision.encoder.kind", "small", "four convolutions as well, of other sizes")
    elif value == "helper2424/resnet10":
        reason = "its weights: ./serl encoder convert resnet10_params.pkl, then vision.encoder.weights"
        result.learn(path, value, "vision.encoder.kind", "resnet10", reason)
        result.learn(path, value, "vision.encoder.weights", "random", reason)
    else:
        result.drop(path, value, "not one of our encoders (./serl encoder)")


def _frozen(result: Translation, path: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise SettingError(path, "true or false", value)
    result.learn(path, value, "vision.encoder.frozen", value, "" if value else "pictures are stored, not features")


def _schedule(result: Translation, path: str, value: Any) -> None:
    pattern = r"linear\(\s*([\d.eE+-]+)\s*,\s*([\d.eE+-]+)\s*,\s*([\d.eE+]+)\s*\)"
    found = re.fullmatch(pattern, value) if isinstance(value, str) else None
    try:
        start, end, steps = (float(part) for part in found.groups()) if found else (float(value), float(value), 1.0)
    except (TypeError, ValueError, OverflowError):
        raise SettingError(path, "a number or linear(start,end,steps)", value) from None
    result.learn(path, value, "drqv2.noise_start", number(path, start, 0, 2))
    result.learn(path, value, "drqv2.noise_end", number(path, end, 0, 2))
    result.learn(path, value, "drqv2.noise_steps", int(number(path, steps, 1, 1e8)))


def _stack(result: Translation, path: str, value: Any) -> None:
    stack = int(number(path, value, 1, 16))
    result.learn(path, value, "vision.frame_stack", stack)
    result.learn(path, value, "acting.history", stack, "of the state, the newest moment first")


def _padding(result: Translation, path: str, value: Any) -> None:
    result.learn(path, value, "vision.encoder.shift", int(number(path, value, 0, 64)))


def _subset(result: Translation, path: str, value: Any) -> None:
    result.learn(path, value, "sac.critic_subset", 0 if value is None else int(number(path, value, 1, 100)))


def _entropy(result: Translation, path: str, value: Any) -> None:
    ours = None if value is None else number(path, value, -1e4, 1e4)
    result.learn(path, value, "sac.target_entropy", ours, "null: minus half the components" if value is None else "")


def _flag(target: str) -> Rule:
    def rule(result: Translation, path: str, value: Any) -> None:
        if not isinstance(value, bool):
            raise SettingError(path, "true or false", value)
        result.learn(path, value, target, value)

    return rule


def _features(result: Translation, path: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise SettingError(path, "features by their names", value)
    cameras = {}
    for name, feature in value.items():
        shape = feature.get("shape") if isinstance(feature, dict) else None
        if name.startswith(_IMAGE):
            if not isinstance(shape, list) or len(shape) != 3:
                raise SettingError(f"{path}.{name}", "a shape of three numbers", feature)
            _, height, width = (int(number(f"{path}.{name}", size, 1, 1024)) for size in shape)
            cameras[camera_name(name)] = {"size": [width, height]}
        else:
            reason = "the state is a list of named terms: edit `state` of the task, in the order that you need"
            result.drop(f"{path}.{name}", feature, reason)
    if cameras:
        result.perform(path, sorted(value), "cameras", cameras)


def camera_name(feature: str) -> str:
    """Our name of a camera for a feature like "observation.images.front"."""
    return re.sub(r"\W", "_", feature.removeprefix(_IMAGE).removeprefix("s.").strip(".")) or "image"


def _sizes(result: Translation, path: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise SettingError(path, "cameras by their names", value)
    result.drop(path, value, "cameras of a real arm are nodes: config/cameras, docs/drivers.md")


def _crops(sizes: Mapping[str, tuple[int, int]]) -> Rule:
    def rule(result: Translation, path: str, value: Any) -> None:
        if not isinstance(value, dict):
            result.drop(path, value, "the whole picture is seen")
            return
        for feature, crop in value.items():
            name, setting = camera_name(feature), f"{path}.{feature}"
            top, left, height, width = numbers(setting, crop, 4)
            cameras = result.task.get("cameras") or {}
            if name not in cameras:
                raise SettingError(setting, f"one of the cameras {', '.join(cameras) or '(none)'}", feature)
            if name not in sizes:
                reason = "in pixels of a picture whose size nothing says: set cameras.*.crop by hand, as parts of it"
                result.drop(setting, crop, reason)
                continue
            wide, high = sizes[name]
            part = [round(x, 6) for x in (left / wide, top / high, width / wide, height / high)]
            views = {each: dict(view) for each, view in cameras.items()}
            views[name]["crop"] = part
            result.perform(setting, crop, "cameras", views, "left, top, width, height as parts of the picture")

    return rule


def _resize(result: Translation, path: str, value: Any) -> None:
    if value is None:
        result.drop(path, value, "pictures get the size that the policy's features say")
        return
    height, width = (int(size) for size in numbers(path, value, 2))
    views = {name: {**view, "size": [width, height]} for name, view in (result.task.get("cameras") or {}).items()}
    result.perform(path, value, "cameras", views)


def _rate(result: Translation, path: str, value: Any) -> None:
    result.perform(path, value, "control_period", round(1.0 / number(path, value, 1, 1000), 6))


def _horizon(result: Translation, path: str, value: Any) -> None:
    steps = int(number(path, value, 0.01, 1e6) / result.task["control_period"] + 1e-6)
    result.perform(path, value, "horizon", max(steps, 1), "seconds by control steps")


def _bounds(result: Translation, path: str, value: Any) -> None:
    if value is None:
        result.drop(path, value, "no bounds: those of the task that is extended")
        return
    if not isinstance(value, dict) or set(value) != {"min", "max"}:
        raise SettingError(path, "min and max", value)
    limits = dict(result.task["limits"])
    limits["workspace_min"], limits["workspace_max"] = (numbers(f"{path}.{k}", value[k], 3) for k in ("min", "max"))
    result.perform(path, value, "limits", limits, "workspace_min, workspace_max; check them in the frame of our base")


def _steps(result: Translation, path: str, value: Any) -> None:
    if not isinstance(value, dict) or set(value) != {"x", "y", "z"}:
        raise SettingError(path, "x, y and z", value)
    scale = [number(f"{path}.{axis}", value[axis], 1e-6, 1.0) for axis in "xyz"]
    _scale(result, path, value, scale)


def _one_step(result: Translation, path: str, value: Any) -> None:
    _scale(result, path, value, [number(path, value, 1e-6, 1.0)] * 3)


def _scale(result: Translation, path: str, value: Any, scale: list[float]) -> None:
    action = result.task.get("action") or {}
    if list(action.get("names", []))[:3] != ["dx", "dy", "dz"]:
        raise SettingError(path, "a task whose action begins with dx, dy, dz", action.get("names"))
    ours = {**action, "scale": scale + list(action["scale"])[3:]}
    result.perform(path, value, "action", ours, "metres of a full action; the gripper's stays")


def _penalty(result: Translation, path: str, value: Any) -> None:
    result.learn(path, value, "hybrid.grasp_penalty", abs(number(path, value, -10, 10)), "what a change costs")


def _robot(result: Translation, path: str, value: Any) -> None:
    if isinstance(value, str) and our_robot(value) == result.task.get("robot"):
        result.option(path, value, f"--robot {our_robot(value)}", "the task that is extended has it")
    else:
        result.drop(path, value, "not the robot of the task that is extended: --task, docs/add_a_robot.md")


def _leads(result: Translation, path: str, value: Any) -> None:
    ours = {"gamepad": "gamepad", "leader": "joint_leader", "leader_automatic": "joint_leader"}.get(str(value))
    if ours is None:
        result.drop(path, value, "no such device here: --teleop has spacemouse, gamepad, leader and others")
    else:
        result.option(path, value, f"--teleop {ours}", "docs/teleop.md")


_PRETRAINED = {"sac": "lerobot_sac", "drqv2": "drqv2"}


def _pretrained(kind: str) -> Rule:
    return _option(f"--from-policy {_PRETRAINED[kind]}:{{}}", "the imported policy proposes; its weights do not change")


_SAC: Final[Mapping[str, Rule]] = {
    "policy.discount": _learn("sac.discount", 0, 0.999999),
    "policy.critic_target_update_weight": _learn("sac.target_rate", 1e-9, 1),
    "policy.actor_lr": _learn("sac.actor_lr", 1e-9, 0.999),
    "policy.critic_lr": _learn("sac.critic_lr", 1e-9, 0.999),
    "policy.temperature_lr": _learn("sac.temperature_lr", 1e-9, 0.999),
    "policy.temperature_init": _learn("sac.initial_temperature", 1e-9, 100),
    "policy.target_entropy": _entropy,
    "policy.use_backup_entropy": _flag("sac.backup_entropy"),
    "policy.num_critics": _learn("sac.critics", 1, 100),
    "policy.num_subsample_critics": _subset,
    "policy.actor_network_kwargs.hidden_dims": _widths("sac.hidden_sizes"),
    "policy.critic_network_kwargs.hidden_dims": _widths("sac.hidden_sizes"),
    "policy.discrete_critic_network_kwargs.hidden_dims": _widths("hybrid.grasp_hidden_sizes"),
    "policy.num_discrete_actions": _discrete,
    "policy.latent_dim": _learn("vision.width", 1, 4096),
    "policy.image_embedding_pooling_dim": _learn("vision.embeddings", 1, 64),
    "policy.pretrained_path": _pretrained("sac"),
}
_DRQV2: Final[Mapping[str, Rule]] = {
    "policy.discount": _learn("drqv2.discount", 0, 0.999999),
    "policy.critic_target_tau": _learn("drqv2.target_rate", 1e-9, 1),
    "policy.actor_lr": _learn("drqv2.actor_lr", 1e-9, 0.999),
    "policy.critic_lr": _learn("drqv2.critic_lr", 1e-9, 0.999),
    "policy.encoder_lr": _none("an encoder that is trained has the critic's step size"),
    "policy.mlp_nodes": _widths("drqv2.hidden_sizes"),
    "policy.stddev_schedule": _schedule,
    "policy.stddev_clip": _learn("drqv2.noise_clip", 0, 2),
    "policy.num_explore_steps": _learn("random_steps", 0, 1e7),
    "policy.bottleneck_size": _learn("vision.width", 1, 4096),
    "policy.augmentation_pad": _padding,
    "policy.frame_stack": _stack,
    "policy.num_critics": _none("two, as in the paper"),
    "policy.num_discrete_actions": _none("all components of the action are continuous"),
    "policy.pretrained_path": _pretrained("drqv2"),
}
_ALL: Final[Mapping[str, Rule]] = {
    "policy.type": _agent,
    "policy.input_features": _features,
    "policy.vision_encoder_name": _vision,
    "policy.freeze_vision_encoder": _frozen,
    "policy.utd_ratio": _learn("utd_ratio", 1, 1000),
    "policy.online_step_before_learning": _learn("training_starts", 0, 1e7),
    "policy.online_buffer_capacity": _learn("replay_capacity", 1, 1e8),
    "policy.offline_buffer_capacity": _learn("demonstration_capacity", 1, 1e8),
    "policy.online_steps": _option("--max-steps {}"),
    "batch_size": _learn("batch_size", 2, 65536, "half of it demonstrations"),
    "seed": _option("--seed {}"),
    "job_name": _option("--name {}"),
    "wandb.project": _option("--wandb {}"),
    "dataset.repo_id": _option("./serl convert {} demonstrations.serl, then --demo-file", "docs/recordings.md"),
    "env.fps": _rate,
    "env.robot.type": _robot,
    "env.robot.cameras": _sizes,
    "env.processor.control_mode": _leads,
    "env.wrapper.control_mode": _leads,
    "env.processor.reset.control_time_s": _horizon,
    "env.wrapper.control_time_s": _horizon,
    "env.processor.inverse_kinematics.end_effector_bounds": _bounds,
    "env.robot.end_effector_bounds": _bounds,
    "env.processor.inverse_kinematics.end_effector_step_sizes": _steps,
    "env.robot.end_effector_step_sizes": _steps,
    "env.robot.action_scale": _one_step,
    "env.processor.gripper.gripper_penalty": _penalty,
    "env.wrapper.gripper_penalty": _penalty,
    "env.processor.image_preprocessing.resize_size": _resize,
    "env.wrapper.resize_size": _resize,
    "env.processor.reward_classifier.pretrained_path": _none(
        "train one: ./serl reward train, then --reward classifier"
    ),
    "env.reward_classifier_pretrained_path": _none("train one: ./serl reward train, then --reward classifier"),
    "reward_classifier.repo_id": _none(
        "no field of LeRobot's; train one: ./serl reward train, then --reward classifier"
    ),
}


def _rule(path: str, kind: str) -> Rule | None:
    own = _DRQV2 if kind == "drqv2" else _SAC
    if (rule := own.get(path) or _ALL.get(path)) is not None:
        return rule
    reason = reason_for(path)
    return None if reason is None else _none(reason)
