# SPDX-License-Identifier: Apache-2.0
"""How `GraphEnv` comes and goes; what it does in a graph is tested with the graph."""

import contextlib
import copy
import os
import pickle
import threading

import pytest
import rclpy

try:
    from serl_training.env.graph_connection import GraphError
    from serl_training.env.graph_env import GraphEnv
except ImportError:
    pytest.skip("the workspace is not built", allow_module_level=True)


def says_what_is_missing(env):
    with pytest.raises(GraphError, match=r"waited 0\.\d s for subscriptions to policy/action"):
        env.reset(seed=0)
    return True


def test_environments_do_not_end_each_other(ros_domain, opened):
    first, second = opened(GraphEnv(reset_timeout=0.1)), opened(GraphEnv(namespace="left", reset_timeout=0.1))
    first.close()
    assert says_what_is_missing(second)
    third = opened(GraphEnv(reset_timeout=0.1))
    second.close()
    second.close()
    assert says_what_is_missing(third)
    third.close()
    assert not rclpy.ok(), "the default context is the program's own"


def test_an_environment_leaves_the_programs_own_ros_alone(ros_domain, opened):
    rclpy.init()
    try:
        GraphEnv().close()
        assert rclpy.ok()
        env = opened(GraphEnv(reset_timeout=0.1))
    finally:
        rclpy.shutdown()
    assert says_what_is_missing(env)


def test_environments_live_in_threads(ros_domain):
    answers = []

    def use():
        with contextlib.closing(GraphEnv(reset_timeout=0.1)) as env:
            answers.append(says_what_is_missing(env))

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True, True]


def test_a_forked_process_is_told_to_be_started_otherwise(ros_domain):
    GraphEnv().close()  # as AsyncVectorEnv does before it forks
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            GraphEnv()
        except RuntimeError as error:
            os.write(writing, str(error).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        assert "multiprocessing's context forkserver or spawn" in answer.read()
    os.waitpid(child, 0)


def test_what_cannot_be_is_refused(ros, opened):
    with pytest.raises(ValueError, match="executor="):
        GraphEnv(node=ros.node())
    with pytest.raises(ValueError, match="namespace already"):
        GraphEnv(node=ros.node("other"), executor=ros.executor, namespace="left")
    with pytest.raises(ValueError, match="namespace"):
        GraphEnv(namespace="left arm")
    env = opened(GraphEnv())
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="make another one"):
            duplicate(env)
