# SPDX-License-Identifier: Apache-2.0
"""Our environments, as Stable-Baselines3 sees them: its checker, and one training as docs/tasks.md shows it."""

import warnings

import gymnasium
import numpy as np
import pytest
from documented_pages import ROOT, blocks

import serl_sim
from serl_tasks import task_names

pytest.importorskip("stable_baselines3", reason="Stable-Baselines3 is not installed: ./serl setup sb3")

SPACES = [name for name in task_names() if serl_sim.environment_id(name) in gymnasium.registry]


@pytest.mark.parametrize("task", SPACES)
def test_their_checker_finds_nothing_wrong(task):
    from stable_baselines3.common.env_checker import check_env

    env = gymnasium.make(serl_sim.environment_id(task))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the checker warns of what learns badly
        check_env(env)
    env.close()


@pytest.mark.timeout(300)
def test_their_sac_learns_as_the_page_on_tasks_shows():
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.monitor import Monitor

    (block,) = [block for block in blocks(ROOT / "docs/tasks.md") if "stable_baselines3" in block.text]
    names: dict = {}
    exec(compile(block.text, block.place, "exec"), names)  # noqa: S102
    returns, _ = evaluate_policy(names["model"], Monitor(names["env"]), n_eval_episodes=50, return_episode_rewards=True)
    names["env"].close()
    # Uniformly random actions flip 12 of 100 slabs.
    assert np.mean(np.asarray(returns) > 0) >= 0.5


def test_their_networks_take_our_pictures():
    from stable_baselines3 import SAC

    env = gymnasium.make("serl/FlipObjectVision-v0")
    model = SAC("MultiInputPolicy", env, seed=0, learning_starts=20, buffer_size=100, batch_size=8)
    before = [parameter.clone() for parameter in model.actor.parameters()]
    model.learn(25)
    assert any(not (old == new).all() for old, new in zip(before, model.actor.parameters(), strict=True))
    observation, _ = env.reset(seed=0)
    action, _ = model.predict(observation, deterministic=True)
    assert env.action_space.contains(action)
    env.close()
