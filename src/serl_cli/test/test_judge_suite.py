# SPDX-License-Identifier: Apache-2.0
"""What a person asks of the suite is what its plan says."""

from serl_bench.suite.plan import FIRST_SEED, QUICK_SETTINGS, SETTINGS, default_tasks
from serl_cli.work.judge_suite import QUICK_ENV_STEPS, QUICK_TASKS, make_plan


def test_what_is_left_out_is_as_the_plan_has_it() -> None:
    plan = make_plan((), (), 0, 0, quick=False)
    assert (plan.tasks, plan.settings) == (default_tasks(), SETTINGS)
    assert plan.seeds == (FIRST_SEED, FIRST_SEED + 1, FIRST_SEED + 2)
    assert plan.max_env_steps == 15_000 and plan.warm_up


def test_quick_is_few_tasks_and_one_seed() -> None:
    plan = make_plan((), (), 0, 0, quick=True)
    assert (plan.tasks, plan.settings, plan.seeds) == (QUICK_TASKS, QUICK_SETTINGS, (FIRST_SEED,))
    assert plan.max_env_steps == QUICK_ENV_STEPS


def test_what_is_named_counts_in_a_quick_suite_too() -> None:
    plan = make_plan(("pick_cube",), ("bc-20",), 2, 700, quick=True)
    assert (plan.tasks, plan.settings, plan.seeds) == (("pick_cube",), ("bc-20",), (FIRST_SEED, FIRST_SEED + 1))
    assert plan.max_env_steps == 700
