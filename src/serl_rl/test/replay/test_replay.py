# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from serl_rl.replay.buffer import SINGLE, ReplayBuffer, Sampling, empty_batch, map_batch
from serl_rl.storage.chunk import Chunk, DataError, TransitionSpec, decode_chunk, encode_chunk

Transition = dict[str, Any]


def stacked(frames: NDArray[Any], row: int, stack: int) -> NDArray[Any]:
    """The newest `stack` frames up to a row, oldest first; the first one stands for those before it."""
    return np.concatenate([frames[max(row - back, 0)] for back in reversed(range(stack))], axis=-1)


def transitions_of(chunk: Chunk, rows: Mapping[str, NDArray[Any]] | None = None) -> list[Transition]:
    """What a list of plain transitions would hold.

    Args:
        chunk: the transitions.
        rows: the observations of its episode from step 0 on, where the chunk does not hold them all.
    """
    spec, start = chunk.spec, 0 if rows is None else chunk.first_step
    rows = rows or chunk.observation

    def observation(row: int) -> dict[str, NDArray[Any]]:
        found = {}
        for name, entry in spec.observation.items():
            frames = rows[name][:, 0] if entry.kind == "features" else rows[name]
            found[name] = frames[row] if entry.kind == "vector" else stacked(frames, row, spec.frame_stack)
        return found

    return [
        {
            "observation": observation(start + i),
            "next_observation": observation(start + i + 1),
            "action": chunk.action[i],
            "reward": chunk.reward[i],
            "mask": chunk.mask[i],
            "key": (chunk.actor_id, chunk.episode, chunk.first_step + i),
        }
        for i in range(len(chunk))
    ]


def spanning(transitions: list[Transition], sampling: Sampling) -> list[Transition]:
    """What `Sampling` makes of a list of plain transitions."""
    stored = {transition["key"]: transition for transition in transitions}

    def run(transition: Transition, most: int) -> list[Transition]:
        actor, episode, step = transition["key"]
        keys = itertools.takewhile(stored.__contains__, ((actor, episode, step + i) for i in range(most)))
        return [stored[key] for key in keys]

    found = []
    for transition in transitions:
        changed = dict(transition)
        if sampling.n_step is not None:
            steps = run(transition, sampling.n_step)
            changed["reward"] = sum(sampling.discount**i * step["reward"] for i, step in enumerate(steps))
            changed["discount"] = sampling.discount ** len(steps)
            changed |= {name: steps[-1][name] for name in ("next_observation", "mask")}
        if sampling.action_chunk is not None:
            steps = run(transition, sampling.action_chunk)
            missing = sampling.action_chunk - len(steps)
            changed["action"] = np.stack([step["action"] for step in steps] + [steps[-1]["action"]] * missing)
            changed["valid"] = np.array([1.0] * len(steps) + [0.0] * missing)
        found.append(changed)
    return found


def through_jpeg(transitions: list[Transition], stack: int) -> list[Transition]:
    """The same with each picture encoded and decoded."""

    def coded(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
        return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]

    def observation(entries: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        frames = np.split(entries["wrist"], stack, axis=-1)
        return entries | {"wrist": np.concatenate([coded(frame) for frame in frames], axis=-1)}

    sides = ("observation", "next_observation")
    return [transition | {side: observation(transition[side]) for side in sides} for transition in transitions]


def as_rows(batch: dict[str, Any]) -> list[dict[str, Any]]:
    return [map_batch(lambda rows, i=i: rows[i], batch) for i in range(len(batch["reward"]))]


def assert_same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for key in one.keys() - {"observation", "next_observation"}:
            np.testing.assert_allclose(one[key], other[key], rtol=1e-5, atol=1e-5, err_msg=key)
        for side in ("observation", "next_observation"):
            for name in other[side]:
                assert np.array_equal(one[side][name], other[side][name])


@st.composite
def interleaved(draw: st.DrawFn) -> list[tuple[int, int, int, bool]]:
    """(actor, episode, first step, length, ends) of chunks as several actors send them, episodes mixed."""
    state = {actor: (actor * 1000, 0) for actor in range(draw(st.integers(1, 3)))}
    chunks = []
    for _ in range(draw(st.integers(1, 25))):
        actor = draw(st.sampled_from(sorted(state)))
        episode, step = state[actor]
        length, ends = draw(st.integers(1, 6)), draw(st.booleans())
        chunks.append((actor, episode, step, length, ends))
        state[actor] = (episode + 1, 0) if ends else (episode, step + length)
    return chunks


def build(
    make_chunk, spec: TransitionSpec, plan: list[tuple[int, int, int, int, bool]]
) -> Iterator[tuple[Chunk, list[Transition]]]:
    """Chunks of a plan, each going on where the one before in its episode ended, and their plain transitions."""
    seen: dict[int, dict[str, NDArray[Any]]] = {}
    for seed, (actor, episode, step, length, ends) in enumerate(plan):
        chunk = make_chunk(
            spec, length, seed=seed, last=ends, actor_id=f"actor{actor}", episode=episode, first_step=step
        )
        if step:
            for name, rows in chunk.observation.items():
                old = seen[actor][name]
                known = 1 if spec.observation[name].kind == "vector" else chunk.history + 1
                rows[:known] = old[-known:]
                seen[actor][name] = np.concatenate([old, rows[known:]])
        else:
            seen[actor] = dict(chunk.observation)
        yield chunk, transitions_of(chunk, seen[actor])


SPECS = ["state_spec", "image_spec", "features_spec", "stacked_images_spec", "stacked_features_spec"]
samplings = st.builds(
    Sampling, n_step=st.none() | st.integers(1, 5), discount=st.floats(0, 1), action_chunk=st.none() | st.integers(1, 5)
)


@pytest.mark.parametrize(
    ("spec_name", "storage"),
    [*itertools.product(SPECS, ["raw"]), ("image_spec", "jpeg"), ("stacked_images_spec", "jpeg")],
)
@given(
    plan=interleaved(),
    capacity=st.integers(1, 40),
    pieces=st.booleans(),
    skipped=st.integers(0, 2),
    sampling=st.just(SINGLE) | samplings,
    seed=st.integers(0, 99),
)
@settings(max_examples=40)
def test_the_buffer_is_the_newest_transitions(
    make_chunk, request, spec_name, storage, plan, capacity, pieces, skipped, sampling, seed
):
    """Chunks of several actors, whole, without their beginning, or in pieces as of interventions."""
    spec = request.getfixturevalue(spec_name)
    buffer, naive = ReplayBuffer(spec, capacity, storage=storage, jpeg_quality=90), []
    rng = np.random.default_rng(seed)
    for chunk, transitions in build(make_chunk, spec, plan):
        keep = rng.random(len(chunk)) < 0.7 if pieces else np.ones(len(chunk), np.bool_)
        keep[: min(skipped, len(chunk) - 1)] = False
        for piece in chunk.select(keep):
            buffer.insert(decode_chunk(encode_chunk(piece), spec))
        naive += [transition for transition, kept in zip(transitions, keep, strict=True) if kept]
        assert len(buffer) <= min(capacity, len(naive))
        if not spec.frame_names:
            assert len(buffer) == min(capacity, len(naive))
        # A piece of one transition needs frame_stack + 1 frames.
        assert len(buffer) >= min(len(naive), max(capacity // (spec.frame_stack + 1), 1))
    expected = spanning(naive[len(naive) - len(buffer) :], sampling)
    if storage == "jpeg":
        expected = through_jpeg(expected, spec.frame_stack)
    assert_same(as_rows(buffer.transitions(sampling)), expected)


def test_the_largest_number_of_a_step_is_stored_like_any_other(make_chunk, stacked_images_spec):
    chunk = make_chunk(stacked_images_spec, 3, first_step=2**63 - 1)
    buffer = ReplayBuffer(stacked_images_spec, 5)
    buffer.insert(decode_chunk(encode_chunk(chunk), stacked_images_spec))
    frames = chunk.observation["wrist"]
    expected = np.concatenate([frames[2], frames[3], frames[4]], axis=-1)
    assert np.array_equal(buffer.transitions()["observation"]["wrist"][2], expected)


def test_features_every_draw_takes_a_view_of_its_own(make_chunk, features_spec):
    chunk = make_chunk(features_spec, 1)
    chunk.observation["wrist"][...] = np.arange(2 * 3).reshape(2, 3, 1, 1, 1)
    buffer = ReplayBuffer(features_spec, 4)
    buffer.insert(chunk)
    batch = buffer.sample(np.random.default_rng(0), 9000)
    now, then = (batch[side]["wrist"] for side in ("observation", "next_observation"))
    assert (now == now[:, :1, :1, :1]).all(), "a sample is of one view"
    pairs = 3 * now[:, 0, 0, 0].astype(int) + then[:, 0, 0, 0].astype(int) - 3
    # 9000 draws of probability 1/9: standard deviation 29.8.
    assert np.abs(np.bincount(pairs, minlength=9) - 1000).max() < 7 * 29.8
    assert len(np.bincount(pairs)) == 9


@given(st.integers(32, 70), st.integers(1, 6))
def test_frames_with_whole_episodes_the_capacity_is_reached(make_chunk, image_spec, length, episodes):
    buffer = ReplayBuffer(image_spec, capacity=50)
    for episode in range(episodes):
        buffer.insert(make_chunk(image_spec, length, seed=episode, last=True, episode=episode))
    assert len(buffer) == min(50, length * episodes)


def test_frames_of_an_episode_are_stored_once(make_episode, image_spec):
    buffer = ReplayBuffer(image_spec, capacity=64)
    for chunk in make_episode(image_spec, 64, pieces=list(range(1, 64))):
        buffer.insert(chunk)
    assert len(buffer) == 64
    assert buffer._frames.written == 65


def test_a_frame_that_differs_is_not_shared(make_chunk, image_spec):
    first = make_chunk(image_spec, 3, seed=1)
    second = make_chunk(image_spec, 3, seed=2, first_step=3)  # goes on, but from another observation
    buffer = ReplayBuffer(image_spec, capacity=20)
    buffer.insert(first)
    buffer.insert(second)
    assert_same(as_rows(buffer.transitions()), transitions_of(first) + transitions_of(second))


@settings(max_examples=20)
@given(st.integers(0, 2**32))
def test_samples_are_stored_transitions_drawn_uniformly(make_chunk, image_spec, seed):
    buffer = ReplayBuffer(image_spec, capacity=10)
    for episode in range(3):
        buffer.insert(make_chunk(image_spec, 6, seed=episode, last=True, episode=episode))
    stored = as_rows(buffer.transitions())
    index = {row["reward"].tobytes(): i for i, row in enumerate(stored)}
    drawn = as_rows(buffer.sample(np.random.default_rng(seed), 2000))
    places = [index[row["reward"].tobytes()] for row in drawn]
    for row, place in list(zip(drawn, places, strict=True))[:50]:
        assert_same([row], [stored[place]])
    counts = np.bincount(places, minlength=10)
    # 2000 draws of probability 0.1: standard deviation 13.4; seven of them happen once in 10^11.
    assert np.abs(counts - 200).max() < 7 * 13.4


@pytest.mark.parametrize("spec_name", ["state_spec", "image_spec"])
def test_sampling_into_a_view_changes_nothing_else(make_chunk, spec_name, request):
    spec = request.getfixturevalue(spec_name)
    buffer = ReplayBuffer(spec, 20)
    buffer.insert(make_chunk(spec, 20))
    batch = empty_batch(spec, (3, 8))
    for value in [
        batch["action"],
        batch["reward"],
        *batch["observation"].values(),
        *batch["next_observation"].values(),
    ]:
        value[...] = 77
    buffer.sample_into(np.random.default_rng(0), map_batch(lambda rows: rows[:, :4], batch))
    assert (batch["reward"][:, 4:] == 77).all()
    assert np.isin(batch["reward"][:, :4], buffer.transitions()["reward"]).all()
    for side in ("observation", "next_observation"):
        for name, rows in batch[side].items():
            assert (rows[:, 4:] == 77).all()
            stored = buffer.transitions()[side][name].reshape(20, -1).tolist()
            assert all(row in stored for row in rows[:, :4].reshape(12, -1).tolist())


def test_an_empty_buffer_says_so(state_spec):
    with pytest.raises(ValueError, match="found none"):
        ReplayBuffer(state_spec, 5).sample(np.random.default_rng(0), 1)
    with pytest.raises(ValueError, match="capacity"):
        ReplayBuffer(state_spec, 0)


def test_truncation_reaches_the_batch_with_its_bootstrap(make_chunk, state_spec):
    cut = np.zeros(5, np.bool_)
    cut[-1] = True
    ended = make_chunk(state_spec, 5, truncated=cut, mask=np.ones(5, np.float32), last=True, success=False)
    buffer = ReplayBuffer(state_spec, 10)
    buffer.insert(ended)
    assert (buffer.transitions()["mask"] == 1.0).all()


def test_samples_that_span_transitions_are_those_of_the_list(make_episode, state_spec):
    sampling = Sampling(n_step=3, discount=0.9, action_chunk=4)
    buffer = ReplayBuffer(state_spec, 20)
    for chunk in make_episode(state_spec, 20, pieces=[3, 7, 8]):
        buffer.insert(chunk)
    stored = {row["observation"]["state"].tobytes(): row for row in as_rows(buffer.transitions(sampling))}
    batch = empty_batch(state_spec, (2, 8), sampling)
    for part in (slice(0, 5), slice(5, 8)):
        buffer.sample_into(np.random.default_rng(0), map_batch(lambda rows, part=part: rows[:, part], batch), sampling)
    for row in as_rows(map_batch(lambda rows: rows.reshape(16, *rows.shape[2:]), batch)):
        assert_same([row], [stored[row["observation"]["state"].tobytes()]])


def test_an_episode_begun_again_under_its_number_follows_nothing(make_chunk, state_spec):
    """An episode that was lost is not counted, so that the next one may have its number."""
    buffer = ReplayBuffer(state_spec, 20)
    lost = make_chunk(state_spec, 4, seed=1)
    again = make_chunk(state_spec, 6, seed=2, last=True)
    for chunk in (lost, again):
        buffer.insert(chunk)
    expected = 0.5 ** np.array([3, 3, 2, 1, 3, 3, 3, 3, 2, 1])
    assert np.allclose(buffer.transitions(Sampling(n_step=3, discount=0.5))["discount"], expected)


def test_what_goes_on_after_its_past_is_forgotten_leaves_others_alone(make_episode, make_chunk, state_spec):
    head, tail = make_episode(state_spec, 3, pieces=[2])
    other = make_chunk(state_spec, 5, actor_id="other")
    buffer = ReplayBuffer(state_spec, 6)
    for chunk in (head, other, other, tail):
        buffer.insert(chunk)
    first, *rest = other.reward.tolist()
    sums = [a + b for a, b in itertools.pairwise([first, *rest])] + [rest[-1], tail.reward[0]]
    assert np.allclose(buffer.transitions(Sampling(n_step=2))["reward"], sums)


@pytest.mark.parametrize("wrong", [{"n_step": 0}, {"action_chunk": 0}, {"n_step": 2, "discount": 1.5}])
def test_impossible_spans_are_refused(wrong):
    with pytest.raises(ValueError, match=next(reversed(wrong))):
        Sampling(**wrong)


def test_jpeg_keeps_colours_and_sizes(make_chunk):
    spec = TransitionSpec({"front": ((32, 48, 3), "uint8"), "depth": ((16, 16, 1), "uint8")}, 1)
    chunk = make_chunk(spec, 3)
    chunk.observation["front"][...] = [200, 100, 20]
    chunk.observation["depth"][...] = np.arange(16)[:, None, None] * 10
    buffer = ReplayBuffer(spec, 10, storage="jpeg")
    buffer.insert(chunk)
    observation = buffer.transitions()["observation"]
    assert np.abs(observation["front"].astype(int) - [200, 100, 20]).max() <= 4
    assert np.abs(observation["depth"].astype(int) - chunk.observation["depth"][:3]).max() <= 4


def test_jpeg_memory_is_that_of_the_pictures_in_the_ring(make_chunk):
    spec = TransitionSpec({"front": ((64, 64, 3), "uint8")}, 1)
    buffer, raw = ReplayBuffer(spec, 64, storage="jpeg"), ReplayBuffer(spec, 64)
    sizes = []
    for episode in range(12):
        chunk = make_chunk(spec, 32, seed=episode, last=True, episode=episode)
        chunk.observation["front"][...] //= 16  # dark noise
        buffer.insert(chunk)
        sizes.append(buffer.nbytes)
    assert sizes[1] > sizes[0]
    assert max(sizes[3:]) < 1.05 * min(sizes[3:]) < 0.5 * raw.nbytes


def test_what_does_not_fit_is_refused_at_once():
    with pytest.raises(ValueError, match=r"capacity: expected at most \d+ transitions of 96 kB.*vision.storage: jpeg"):
        ReplayBuffer(TransitionSpec({"front": ((256, 128, 3), "uint8")}, 1), 10**9)
    with pytest.raises(DataError, match="1 or 3 channels"):
        ReplayBuffer(TransitionSpec({"front": ((8, 8, 4), "uint8")}, 1), 10, storage="jpeg")
