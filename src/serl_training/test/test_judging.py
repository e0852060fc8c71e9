# SPDX-License-Identifier: Apache-2.0
"""Who judges without knowing the truth, on made-up pictures and words."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serl_rl.spec import DataError
from serl_training.reward.judging import HumanJudge, PictureJudge, PictureMatcher
from serl_training.reward.reward_frames import check_source, frame_source

from serl_tasks import get_task

PERIOD = 100


def brightness(pictures: Mapping[str, np.ndarray]) -> np.ndarray:
    """Believes in success as much as the pictures are bright."""
    success = float(np.mean([picture.mean() for picture in pictures.values()])) / 255.0
    return np.array([1.0 - success, success])


class Scene:
    """Two cameras that a test holds in its hands."""

    def __init__(self, consecutive: int = 2, skew_ns: int = 0) -> None:
        self.looks = 0
        self.judge = PictureJudge(self.look, [0.8], consecutive, skew_ns)
        self.judge.begin(1)
        self.stamps = {"front": -1, "wrist": -1}
        self.bright = 0

    def look(self, pictures: Mapping[str, np.ndarray]) -> np.ndarray:
        self.looks += 1
        return brightness(pictures)

    def see(self, bright: int = 0, **stamps: int):
        self.stamps |= stamps
        picture = np.full((4, 4, 3), bright, np.uint8)
        return self.judge.judge(self.stamps, lambda: {"front": picture, "wrist": picture})

    def frame(self, stamp: int, bright: int):
        assert self.see(bright, front=stamp) is None, "half of the pictures is no frame"
        return self.see(bright, wrist=stamp)


def test_every_moment_gets_one_verdict_as_soon_as_its_pictures_are_there():
    scene = Scene()
    for step in range(4):
        verdict = scene.frame(PERIOD * step, bright=51)
        assert (verdict.stamp_ns, verdict.episode, verdict.step) == (PERIOD * step, 1, step)
        assert verdict.probability == pytest.approx(0.2)
        assert (verdict.reward, verdict.success, verdict.terminated) == (0.0, False, False)
    assert scene.looks == 4


def test_pictures_that_come_again_get_their_verdict_again_without_another_look():
    scene = Scene()
    first = scene.frame(0, bright=255)
    assert scene.see(bright=255) is first
    scene.judge.begin(2)
    assert scene.see(bright=255) is first, "what stands still belongs to the episode in which it was seen"
    assert scene.looks == 1


def test_success_takes_frames_in_a_row_and_ends_the_episode():
    scene = Scene(consecutive=2)
    assert not scene.frame(0, 255).success
    assert not scene.frame(1, 0).success
    assert not scene.frame(2, 255).success
    verdict = scene.frame(3, 255)
    assert (verdict.reward, verdict.success, verdict.terminated) == (1.0, True, True)


def test_a_new_episode_forgets_what_the_last_one_showed():
    scene = Scene(consecutive=2)
    scene.frame(0, 255)
    scene.judge.begin(7)
    verdict = scene.frame(1, 255)
    assert (verdict.success, verdict.episode, verdict.step) == (False, 7, 0)
    assert scene.frame(2, 255).success


def test_cameras_that_are_not_synchronized_are_matched_within_the_skew():
    scene = Scene(skew_ns=20)
    assert scene.see(front=0) is None
    assert scene.see(wrist=15).stamp_ns == 15
    assert scene.see(front=33) is None, "the wrist's picture was used already"
    assert scene.see(wrist=48).stamp_ns == 48
    assert scene.see(front=66) is None
    assert scene.see(front=99) is None, "the wrist has stopped"
    assert scene.see(wrist=200) is None, "too far apart"


@given(
    events=st.lists(st.tuples(st.sampled_from(["front", "wrist"]), st.integers(1, 40)), max_size=60),
    skew=st.integers(0, 30),
)
def test_no_picture_is_used_twice_and_none_with_one_that_is_too_far_away(events, skew):
    matcher = PictureMatcher(skew)
    stamps, used = {"front": -1, "wrist": -1}, []
    for camera, later in events:
        stamps[camera] += later
        if matcher.take(stamps):
            used.append(dict(stamps))
    for frame in used:
        assert abs(frame["front"] - frame["wrist"]) <= skew
    for camera in stamps:
        taken = [frame[camera] for frame in used]
        assert len(taken) == len(set(taken))


def test_a_persons_word_holds_for_the_next_state_of_the_episode():
    judge = HumanJudge()
    assert not judge.say(True), "no episode is running"
    judge.begin(3)
    first = judge.judge(0)
    assert (first.episode, first.step, first.success, first.terminated) == (3, 0, False, False)
    assert judge.say(True)
    assert judge.judge(0) is first, "the state was judged before the person spoke"
    verdict = judge.judge(1)
    assert (verdict.reward, verdict.success, verdict.terminated, verdict.step) == (1.0, True, True, 1)
    judge.begin(4)
    assert not judge.judge(2).terminated
    assert judge.say(False)
    verdict = judge.judge(3)
    assert (verdict.reward, verdict.success, verdict.terminated) == (0.0, False, True)
    judge.end()
    assert not judge.say(True)


def test_frames_of_another_task_camera_or_crop_do_not_fit():
    task = get_task("pick_cube_vision")
    source = frame_source(task)
    check_source("a file", source, source)
    with pytest.raises(DataError, match="cameras"):
        frame_source(get_task("pick_cube"))
    other = frame_source(task, ("apart", "together", "done"))
    with pytest.raises(DataError, match="stages failure, success"):
        check_source("a file", other, source)
