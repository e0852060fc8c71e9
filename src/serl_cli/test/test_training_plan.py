# SPDX-License-Identifier: Apache-2.0
"""What a person decides about a training is checked, kept, and may change on resume only where the data allow it."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from serl_cli.names import check_task, on_robot
from serl_cli.training_plan import TrainingPlan
from serl_launch.domain import claim
from serl_launch.errors import CommandError, UsageError
from serl_rl.base_action import BASE_ACTION
from serl_rl.foreign.initial import InitialWeights
from serl_rl.spec import TransitionSpec
from serl_rl.storage.journal import Journal
from serl_training.link.contract import load_learning, meaning_of, transition_spec

from serl_cli import run_config, training_plan
from serl_launch import runs
from serl_tasks import get_task

SHAPES = {"state": ((3,), "float32")}

PLAN = TrainingPlan(
    task="pick_cube",
    seed=3,
    demos=20,
    demo_file="",
    max_steps=3000,
    eval_every=250,
    eval_episodes=50,
    goal=0.95,
    interventions=True,
    rtf=0.0,
    learning="rlpd_state",
    settings=("utd_ratio=4",),
    viewer=False,
)


def _run(tmp_path: Path) -> runs.Run:
    run = runs.create_run(tmp_path, "x")
    runs.write_atomically(run.learning_file, "utd_ratio: 4\n")
    return run


def test_a_plan_round_trips_through_the_run(tmp_path: Path) -> None:
    run = _run(tmp_path)
    run_config.write_run_config(run, PLAN)
    assert run_config.read_run_config(run).plan == PLAN
    config = runs.read_config(run)
    assert config["learning"] == {"utd_ratio": 4}
    assert config["task"]["name"] == "pick_cube"
    assert "machine" in config["system"]


@pytest.mark.parametrize("stored", [None, {}, {"task": "pick_cube"}, "text"])
def test_a_damaged_plan_is_one_readable_error(tmp_path: Path, stored: object) -> None:
    run = _run(tmp_path)
    runs.write_config(run, {"plan": stored})
    with pytest.raises(CommandError, match=r"config\.yaml: .*this run cannot be used"):
        run_config.read_run_config(run)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(
            (key, value)
            for key in ("seed", "demos", "max_steps", "eval_every")
            for value in (-1, "a", 1.5, 2**40, None)
        ),
        *(("goal", value) for value in (2.0, -1e9, "x")),
        ("rtf", -1.0),
        ("settings", "utd_ratio=4"),
        ("interventions", "perhaps"),
        ("reward", "nobody"),
        ("task", "no such task"),
        ("unknown", 1),
    ],
)
def test_a_plan_that_was_edited_is_refused_by_the_name_of_the_key(tmp_path: Path, key: str, value: object) -> None:
    run = _run(tmp_path)
    run_config.write_run_config(run, PLAN)
    config = runs.read_config(run)
    config["plan"][key] = value
    runs.write_config(run, config)
    with pytest.raises(CommandError, match=rf"(?s)config\.yaml.*{value if key == 'task' else key}"):
        run_config.read_run_config(run)


def test_a_run_goes_on_only_as_it_was_begun(tmp_path: Path) -> None:
    run = _run(tmp_path)
    run_config.write_run_config(run, PLAN)
    run_config.check_unchanged(run, PLAN)  # nothing was stored yet
    meaning = meaning_of(get_task("pick_cube"))
    with (
        Journal(run.journal, TransitionSpec(SHAPES, 4, meaning=meaning)),
        pytest.raises(CommandError, match="another learner"),
    ):
        run_config.check_unchanged(run, PLAN)
    with claim("x", run.path), pytest.raises(CommandError, match="trains it already"):
        run_config.check_unchanged(run, PLAN)
    run_config.check_unchanged(run, PLAN)
    shutil.rmtree(run.journal)
    Journal(run.journal, TransitionSpec(SHAPES, 4, meaning=meaning | {"base_frame": "table"})).close()
    with pytest.raises(CommandError, match=r"journal: .*base_frame: expected panda_link0, found table"):
        run_config.check_unchanged(run, PLAN)
    runs.write_atomically(run.learning_file, "utd_ratio: 2\n")
    with pytest.raises(CommandError, match=r"learning\.yaml: .*utd_ratio: expected 4, found 2"):
        run_config.check_unchanged(run, PLAN)


def test_a_run_that_improves_a_policy_goes_on(tmp_path: Path) -> None:
    run = _run(tmp_path)
    learning = training_plan.resolve_learning("rlpd_state", ["sac.improve=residual"])
    runs.write_atomically(run.learning_file, yaml.safe_dump(learning))
    run_config.write_run_config(run, PLAN)
    task = get_task("pick_cube")
    improved = transition_spec(task, load_learning(str(run.learning_file), task), None)
    assert BASE_ACTION in improved.observation
    Journal(run.journal, improved).close()
    run_config.check_unchanged(run, PLAN)
    shutil.rmtree(run.journal)
    scales = [value | {"scale": 2.0} for value in improved.meaning["action"]]
    Journal(run.journal, replace(improved, meaning={**improved.meaning, "base_action": scales})).close()
    with pytest.raises(CommandError, match=r"journal: .*base_action\[0\]\.scale \(dx\): expected 0\.04, found 2\.0"):
        run_config.check_unchanged(run, PLAN)


def test_settings_change_the_learning_configuration() -> None:
    values = training_plan.resolve_learning(
        "rlpd_state", ["utd_ratio=7", "sac.hidden_sizes=[32, 32]", "sac.actor_lr=1.0e-3"]
    )
    assert values["utd_ratio"] == 7
    assert values["sac"]["hidden_sizes"] == [32, 32]
    assert values["sac"]["actor_lr"] == 1e-3
    assert values["batch_size"] == training_plan.resolve_learning("rlpd_state", [])["batch_size"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("utd_ratio", "expected KEY=VALUE"),
        ("=3", "expected KEY=VALUE"),
        ("utd_rato=3", "utd_ratio"),
        ("utd_ratio=many", "utd_ratio"),
        ("utd_ratio=-1", "utd_ratio"),
        ("sac.nothing=1", "nothing"),
        ("batch_size.x=1", "batch_size is a value"),
        ("utd_ratio=[", "not valid YAML"),
    ],
)
def test_a_wrong_setting_is_a_usage_error_that_names_it(setting: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        training_plan.resolve_learning("rlpd_state", [setting])


def test_on_resume_what_was_not_given_stays_as_it_was() -> None:
    wanted = replace(PLAN, seed=0, demos=5, max_steps=9000, goal=0.5, settings=())
    assert training_plan.continued(PLAN, wanted, {"resume", "max_steps"}) == replace(PLAN, max_steps=9000)


def test_on_resume_the_same_value_may_be_given_again() -> None:
    assert training_plan.continued(PLAN, replace(PLAN, viewer=True), {"seed", "task", "viewer"}) == replace(
        PLAN, viewer=True
    )


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"task": "other"}, "TASK"),
        ({"seed": 4}, "--seed"),
        ({"demos": 1}, "--demos"),
        ({"settings": ()}, "--set"),
        ({"demo_file": "/x"}, "--demo-file"),
        ({"learning": "other"}, "--learning"),
    ],
)
def test_on_resume_what_is_in_the_data_cannot_change(change: dict[str, object], shown: str) -> None:
    with pytest.raises(UsageError, match=f"{shown} cannot change"):
        training_plan.continued(PLAN, replace(PLAN, **change), set(change))  # type: ignore[arg-type]


BY_TURNS = replace(PLAN, task="relocate_forward", partner="relocate_backward")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"partner": "x"}, "no task 'x'"),
        ({"partner": "relocate_forward"}, "--with relocate_forward: .* does not undo itself"),
        ({"partner": "open_drawer"}, "--with open_drawer: .*cannot take turns: expected the same"),
        ({"demo_file": "/x"}, "--demo-file is for one task"),
        ({"reward": "classifier"}, "--reward classifier is for one task"),
    ],
)
def test_what_is_not_for_two_tasks_is_refused(change: dict[str, object], message: str) -> None:
    training_plan.check_partner(PLAN)
    training_plan.check_partner(BY_TURNS)
    with pytest.raises(UsageError, match=message):
        training_plan.check_partner(replace(BY_TURNS, **change))  # type: ignore[arg-type]


def test_each_of_two_tasks_has_a_run_of_its_own_in_that_of_both(tmp_path: Path) -> None:
    run = _run(tmp_path)
    assert run_config.members(run, PLAN) == [(run, PLAN)]
    members = run_config.members(run, BY_TURNS)
    assert [member.path for member, _ in members] == [run.path / "relocate_forward", run.path / "relocate_backward"]
    assert [own.tasks for _, own in members] == [("relocate_forward",), ("relocate_backward",)]
    for member, own in members:
        member.path.mkdir()
        shutil.copyfile(run.learning_file, member.learning_file)
        run_config.write_run_config(member, own)
        found = runs.find_run(tmp_path, f"x/{own.task}")
        assert run_config.read_run_config(found).plan == own


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"teleop": "spacemouse"}, "--teleop spacemouse is for one arm, and lift_bar has two"),
        ({"hardware": "emulated"}, "--hardware emulated is for one arm"),
        ({"page": True}, "--console is for one arm"),
    ],
)
def test_what_is_for_one_arm_is_refused_for_two(options: dict[str, Any], message: str) -> None:
    training_plan.check_arms("pick_cube", **options)
    training_plan.check_arms("lift_bar", teleop="none")
    with pytest.raises(UsageError, match=message):
        training_plan.check_arms("lift_bar", **options)


@pytest.mark.parametrize(
    ("change", "page", "shown"),
    [
        ({"partner": "relocate_backward"}, False, "--with relocate_backward"),
        ({"demo_file": "demos.serl"}, False, "--demo-file"),
        ({"teleop": "spacemouse"}, False, "--teleop spacemouse"),
        ({"hardware": "emulated"}, False, "--hardware emulated"),
        ({"reward": "human"}, False, "--reward human"),
        ({"viewer": True}, False, "--viewer"),
        ({}, True, "--console"),
        ({"learning": "act"}, False, "--learning act"),
    ],
)
def test_what_is_for_one_arm_is_refused_for_a_fleet(change: dict[str, Any], page: bool, shown: str) -> None:
    training_plan.check_actors(replace(PLAN, **change), page=page)
    training_plan.check_actors(replace(PLAN, actors=2))
    with pytest.raises(UsageError, match=f"^{shown} is for one arm, and --actors 2 "):
        training_plan.check_actors(replace(PLAN, actors=2, **change), page=page)


def test_a_run_goes_on_with_another_number_of_arms() -> None:
    assert training_plan.continued(PLAN, replace(PLAN, actors=4), {"actors"}).actors == 4


def test_a_policy_for_each_arm_is_refused_where_there_is_one_arm() -> None:
    values = training_plan.resolve_learning("rlpd_state", ["policies=per_arm"])
    training_plan.check_policies(replace(PLAN, task="lift_bar"), values)
    training_plan.check_policies(PLAN, training_plan.resolve_learning("rlpd_state", []))
    with pytest.raises(UsageError, match=f"policies=per_arm is for two arms, and {PLAN.task} has one"):
        training_plan.check_policies(PLAN, values)


def test_on_resume_the_partner_cannot_change() -> None:
    with pytest.raises(UsageError, match="--with cannot change"):
        training_plan.continued(BY_TURNS, PLAN, {"partner"})


def test_an_unknown_task_names_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"no task 'x'; known: .*pick_cube"):
        check_task("x")


def test_a_task_that_is_nearly_right_is_answered_by_its_name_alone() -> None:
    with pytest.raises(UsageError, match=r"^no task 'pick_cub'; did you mean 'pick_cube' or '\w+'\?$"):
        check_task("pick_cub")


def test_a_task_is_taken_in_its_version_for_another_robot() -> None:
    assert on_robot("pick_cube", "") == on_robot("pick_cube", "panda") == "pick_cube"
    for robot in ("fr3", "so101", "piper", "trossen"):
        name = on_robot("pick_cube", robot)
        assert get_task(name).robot == robot
        assert on_robot(name, robot) == name


def test_a_robot_that_a_task_is_not_there_for_is_one_readable_error() -> None:
    with pytest.raises(
        UsageError, match=r"--robot ur5: .* of 'pick_cube' for, one of panda, fr3, piper, so101, trossen"
    ):
        on_robot("pick_cube", "ur5")
    with pytest.raises(UsageError, match=r"one of panda; .* write config/tasks/insert_peg_ROBOT.yaml"):
        on_robot("insert_peg", "fr3")
    with pytest.raises(UsageError, match="no task 'pick_kube'"):
        on_robot("pick_kube", "fr3")


def _weights(**changes: Any) -> InitialWeights:
    network = {"hidden_sizes": [16], "layer_norm": False, "bottleneck": 8}
    task = get_task("pick_cube")
    values = {
        "source": Path("7_snapshot.pt"),
        "agent": "drqv2",
        "network": network,
        "defaults": {"noise_start": 0.2, "discount": 0.97},
        "history": 2,
        "state": task.observation_space["state"].shape[0],
        "actions": len(task.action),
        "arrays": {},
    }
    return InitialWeights(**(values | changes))


@pytest.fixture
def initial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    (tmp_path / "7_snapshot.pt").touch()

    def check(plan: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
        monkeypatch.setattr(training_plan, "read_initial", lambda _: _weights(**changes))
        values: dict[str, Any] = {"learning": "drqv2", "settings": (), "init_from": f"drqv2:{tmp_path}/7_snapshot.pt"}
        wanted = replace(PLAN, **(values | (plan or {})))
        learning = training_plan.resolve_learning(wanted.learning, wanted.settings)
        assert training_plan.check_initial(wanted, learning) is not None
        return learning

    return check


def test_an_agent_that_begins_with_weights_gets_the_networks_and_settings_they_need(
    initial: Callable[..., dict[str, Any]],
) -> None:
    learning = initial()
    assert learning["drqv2"]["hidden_sizes"] == [16] and learning["drqv2"]["bottleneck"] == 8
    assert learning["drqv2"]["discount"] == 0.97 and learning["drqv2"]["noise_start"] == 0.2
    assert learning["acting"]["history"] == 2 and learning["random_steps"] == 0
    said = ("drqv2.discount=0.9", "random_steps=50", "drqv2.bottleneck=8")
    learning = initial({"settings": said})
    assert learning["drqv2"]["discount"] == 0.9 and learning["random_steps"] == 50


@pytest.mark.parametrize(
    ("plan", "changes", "says"),
    [
        ({"learning": "rlpd_state"}, {}, "agent drqv2, found sac: add --learning drqv2"),
        ({"settings": ("drqv2.hidden_sizes=[64]",)}, {}, r"need drqv2.hidden_sizes=\[16\], found \[64\]"),
        ({"settings": ("acting.history=3",)}, {}, "acting.history=2 moments, found 3"),
        ({"from_policy": "serl:x"}, {}, "exclude each other"),
        ({"partner": "relocate_backward"}, {}, "two that take turns"),
        ({"task": "pick_cube_vision"}, {}, "a task without cameras.*found pick_cube_vision with"),
        ({"init_from": "drqv2:nowhere"}, {}, "where nothing is"),
        ({"init_from": "pickle:x"}, {}, "drqv2:PATH"),
        ({}, {"state": 5}, "a state of 5 values"),
        ({}, {"actions": 9}, "actions of 9"),
        ({}, {"network": {"hidden_sizes": [10**6]}}, "hidden_sizes"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    initial: Callable[..., dict[str, Any]], plan: dict[str, Any], changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        initial(plan, **changes)
