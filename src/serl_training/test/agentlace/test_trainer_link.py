# SPDX-License-Identifier: Apache-2.0
"""Our actor's link to a learner of SERL, at a server as agentlace's wire is described."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import numpy as np
import pytest
from serl_rl.spec import TransitionSpec
from serl_rl.storage.chunk import Chunk
from serl_training.actor.rollout import ChunkBuilder, ChunkFormat, StepOutcome
from serl_training.agentlace.conversion import ScriptTransitions
from serl_training.agentlace.trainer_link import RandomPolicy, TrainerAddress, TrainerLink, serl_transitions
from serl_training.env.episode import EpisodeMode, EpisodeStart

pytest.importorskip("zmq", reason="./serl setup agentlace")
pytest.importorskip("lz4.frame", reason="./serl setup agentlace")

SPEC = TransitionSpec({"state": ((3,), np.float32)}, 2)
SEEING = TransitionSpec({"state": ((3,), np.float32), "wrist": ((4, 6, 3), np.uint8)}, 2)


class Spinner:
    """Looks again and again, as an executor does."""

    def spin_until(self, condition: Callable[[], bool], timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True


def observation(spec: TransitionSpec, number: int) -> dict[str, Any]:
    return {name: np.full(entry.shape, number, entry.dtype) for name, entry in spec.observation.items()}


def episode(
    spec: TransitionSpec, first: int, length: int, *, number: int = 1, led: bool = False, shown: bool = False
) -> Chunk:
    """That is over because of the time, and says in its states which one it is."""
    mode = EpisodeMode.DEMONSTRATION if shown else EpisodeMode.TRAINING
    builder = ChunkBuilder(observation(spec, first), EpisodeStart(mode, number, 0), ChunkFormat(spec, size=length))
    for step in range(length):
        last = step == length - 1
        outcome = StepOutcome(np.full(2, 0.5, np.float32), float(last), False, last, led and step == 0, 1, shown)
        chunk = builder.add(outcome, observation(spec, first + step + 1))
    assert chunk is not None
    return chunk


@pytest.fixture
def link() -> Iterator[Callable[..., TrainerLink]]:
    links: list[TrainerLink] = []

    def begin(server: Any, spec: TransitionSpec = SPEC) -> TrainerLink:
        address = TrainerAddress.parse(f"agentlace://127.0.0.1:{server.port}")
        links.append(TrainerLink(address, Spinner(), spec, 20_000, lambda: None))
        return links[-1]

    yield begin
    for each in links:
        each.close()


def states(items: list[Any]) -> list[float]:
    return [float(item["observations"][0]) for item in items]


def test_episodes_arrive_and_a_persons_steps_in_their_own_store_too(link: Any, serve: Any) -> None:
    server = serve("actor_env", "actor_env_intvn")
    ours = link(server)
    ours.connect()
    ours.send(episode(SPEC, 0, 5, led=True))
    ours.send(episode(SPEC, 10, 3, number=2, shown=True))
    ours.flush()
    assert states(server.stores["actor_env"]) == [0, 1, 2, 3, 4]
    assert states(server.stores["actor_env_intvn"]) == [0, 10, 11, 12]
    totals = ours.totals
    assert (totals.env_steps, totals.demonstrations, totals.episodes) == (5, 1, 2)
    assert ours.backlog == 0 and ours.silence == 0.0


def test_a_learner_without_a_store_for_a_person_gets_everything_in_the_other(link: Any, serve: Any) -> None:
    server = serve("actor_env")
    ours = link(server)
    ours.connect()
    ours.send(episode(SPEC, 0, 2, shown=True))
    ours.flush()
    assert states(server.stores["actor_env"]) == [0, 1]


def test_nothing_is_lost_where_learner_or_link_begin_anew(link: Any, serve: Any) -> None:
    server = serve("actor_env")
    for start in (0, 100):
        ours = link(server)
        ours.connect()
        ours.send(episode(SPEC, start, 4))
        ours.flush()
    assert states(server.stores["actor_env"]) == [0, 1, 2, 3, 100, 101, 102, 103]


def test_numbers_are_sent_as_the_request_that_serls_learner_logs(link: Any, serve: Any) -> None:
    server = serve("actor_env")
    ours = link(server)
    ours.connect()
    ours.tell({"train/episode_return": 1.0})
    assert Spinner().spin_until(lambda: bool(server.stats), 30.0)
    assert server.stats == [{"environment": {"train/episode_return": 1.0}}]


def actor_of(value: float) -> dict[str, Any]:
    """Parameters as SERL's learner publishes them, whose best action is tanh(value)."""
    layer = {"kernel": np.zeros((3, 4), np.float32), "bias": np.zeros(4, np.float32)}
    norm = {"scale": np.ones(4, np.float32), "bias": np.zeros(4, np.float32)}
    head = {"kernel": np.zeros((4, 2), np.float32), "bias": np.full(2, value, np.float32)}
    return {
        "modules_actor": {"network": {"Dense_0": layer, "LayerNorm_0": norm}, "Dense_0": head, "Dense_1": head},
        "modules_temperature": {"lagrange": np.float32(0.0)},
    }


def test_what_the_learner_publishes_acts_and_what_is_none_is_refused(
    link: Any, serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve("actor_env")
    ours = link(server)
    ours.connect()
    assert isinstance(ours.policy, RandomPolicy)
    assert np.abs(ours.policy.act({}, deterministic=True)).max() <= 1.0
    state = {"state": np.zeros(3, np.float32)}

    def acts(value: float) -> bool:
        return bool(np.allclose(ours.policy.act(state, deterministic=True), np.tanh(value), atol=1e-6))

    def heard(condition: Callable[[], bool], params: Any) -> bool:
        for _ in range(300):  # who subscribes late hears the next ones
            server.publish(params)
            if Spinner().spin_until(condition, 0.1):
                return True
        return False

    assert heard(lambda: acts(0.5), actor_of(0.5))
    version = ours.policy_version
    with caplog.at_level(logging.ERROR):
        wrong = actor_of(0.9)
        wrong["modules_actor"]["Dense_0"]["bias"] = np.float32([np.nan, 0.0])
        for bad in (wrong, {"trunk": np.zeros(2, np.float32)}, [1, 2], {"modules_actor": "none"}):
            before = len(caplog.records)
            assert heard(lambda before=before: len(caplog.records) > before, bad), bad
    assert acts(0.5) and ours.policy_version >= version
    assert heard(lambda: acts(-0.5), actor_of(-0.5))


def test_a_link_without_a_server_says_for_what_it_waits(serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    class GivenUp(Exception):
        pass

    def give_up() -> None:
        if "expected a trainer server with the store actor_env" in caplog.text:
            raise GivenUp

    address = TrainerAddress.parse(f"agentlace://localhost:{serve('else').port}")
    ours = TrainerLink(address, Spinner(), SPEC, 100, give_up)
    with pytest.raises(GivenUp):
        ours.connect()
    ours.close()


@pytest.mark.parametrize(
    "text", ["", "host", "tcp://host:1", "agentlace://", "agentlace://h:99999", "agentlace://h:1/x"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected agentlace://HOST:PORT"):
        TrainerAddress.parse(text)
    assert str(TrainerAddress.parse("agentlace://robot")) == "agentlace://robot:5488"


def test_what_is_sent_is_what_our_own_gateway_takes_for_the_same_episode() -> None:
    for spec in (SPEC, SEEING):
        chunk = episode(spec, 3, 6)
        script = ScriptTransitions(spec, spec, None, actor_id="actor", next_episode=count(1).__next__)
        (again,), refused = script.convert(serl_transitions(chunk))
        assert refused == []
        for name, values in chunk.observation.items():
            np.testing.assert_array_equal(again.observation[name], values)
        for name in ("action", "reward", "mask", "truncated"):
            np.testing.assert_array_equal(getattr(again, name), getattr(chunk, name))
        assert again.last and chunk.last
