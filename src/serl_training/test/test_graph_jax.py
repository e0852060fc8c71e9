# SPDX-License-Identifier: Apache-2.0
import pytest
from serl_training.graph_jax import declare_compile_cache, prepare


@pytest.fixture
def node(ros):
    return ros.node()


def test_a_cache_that_cannot_be_used_is_a_warning_and_no_end(node, monkeypatch):
    said = []
    monkeypatch.setattr(type(node.get_logger()), "warning", lambda _logger, text: said.append(text))
    prepare(node, "/proc/x/xla")
    (line,) = said
    assert line.startswith("parameter 'compile_cache': /proc/x/xla cannot be used (No such file or directory)")


def test_the_cache_lies_with_those_of_other_programs(node, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/me")
    assert declare_compile_cache(node) == "/var/cache/me/serl-ros2/xla"
