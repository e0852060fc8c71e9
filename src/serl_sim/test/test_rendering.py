# SPDX-License-Identifier: Apache-2.0
import threading

import mujoco
import numpy as np
import pytest
from builtin_interfaces.msg import Time
from serl_robots.model.camera_info import ideal_camera_info, optical_frame
from serl_robots.model.pose import Pose
from serl_sim.rendering import PRETTY, RenderError
from serl_sim.transforms import RobotFrames, camera_transforms


def reddish(pixels):
    """Where the red cube is, bool (height, width)."""
    red, green, blue = (pixels[..., channel].astype(int) for channel in range(3))
    return (red > 120) & (red > 2 * green) & (red > 2 * blue)


def pose_of(transform):
    t, r = transform.translation, transform.rotation
    return Pose((t.x, t.y, t.z), (r.x, r.y, r.z, r.w))


def test_an_image_has_the_size_that_was_asked_for(world):
    for width, height in ((128, 128), (64, 32), (320, 240)):
        pixels = world.render("front", width, height)
        assert pixels.shape == (height, width, 3)
        assert pixels.dtype == np.uint8
        assert pixels.std() > 10


def test_the_same_state_gives_the_same_image(world):
    before = world.render("wrist", 128, 128)
    world.render("front", 320, 240)
    np.testing.assert_array_equal(world.render("wrist", 128, 128), before)


def test_both_cameras_and_the_overview_see_the_cube(world):
    for name, appearance in (("front", None), ("wrist", None), ("overview", PRETTY)):
        arguments = () if appearance is None else (appearance,)
        assert reddish(world.render(name, 256, 256, *arguments)).sum() > 30, name


@pytest.mark.parametrize("camera", ["front", "wrist"])
@pytest.mark.parametrize("position", [(0.5, 0.0, 0.02), (0.45, 0.08, 0.02), (0.57, -0.06, 0.02)])
@pytest.mark.parametrize("size", [(256, 192), (160, 120), (64, 64), (1024, 512)])
def test_intrinsics_and_frames_say_where_the_cube_is_in_the_image(world, camera, position, size):
    world.reset(0, {"cube": Pose(position)})
    width, height = size
    pixels = reddish(world.render(camera, width, height))
    rows, columns = np.nonzero(pixels)
    if pixels[:, [0, -1]].any() or pixels[[0, -1]].any() or len(rows) == 0:
        pytest.skip("this camera does not see all of the cube there")

    stamp = Time()
    frames = RobotFrames(world.model, world.robot)
    transforms = [*frames.fixed(stamp), *frames.moving(world.data, stamp)]
    transforms += camera_transforms(world.cameras, stamp)
    parents = {message.child_frame_id: message for message in transforms}
    frame, world_to_camera = optical_frame(camera), Pose.identity()
    while frame != "world":
        world_to_camera = pose_of(parents[frame].transform).compose(world_to_camera)
        frame = parents[frame].header.frame_id
    point = world_to_camera.inverse().transform(world.objects()["cube"].position)
    info = ideal_camera_info(world.cameras[camera].fovy_deg, width, height, optical_frame(camera))
    u, v, w = np.reshape(info.k, (3, 3)) @ point
    assert columns.mean() == pytest.approx(u / w, abs=0.02 * height)
    assert rows.mean() == pytest.approx(v / w, abs=0.02 * height)


def test_frames_lead_to_the_tool(world):
    stamp = Time()
    frames = RobotFrames(world.model, world.robot)
    parents = {message.child_frame_id: message for message in [*frames.fixed(stamp), *frames.moving(world.data, stamp)]}
    frame, pose = world.robot.tcp_frame, Pose.identity()
    while frame != "world":
        pose = pose_of(parents[frame].transform).compose(pose)
        frame = parents[frame].header.frame_id
    assert pose.distance(world.objects()["tcp"]) < 1e-9
    assert pose.angle(world.objects()["tcp"]) < 1e-9
    moving = {message.child_frame_id for message in frames.moving(world.data, stamp)}
    assert moving == {f"panda_link{i}" for i in range(1, 8)} | {"panda_leftfinger", "panda_rightfinger"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("side", 64, 64), "no camera 'side'; there are: front"), (("front", 5000, 64), "image size")],
)
def test_an_image_that_cannot_be_is_refused(world, arguments, message):
    with pytest.raises(RenderError, match=message):
        world.render(*arguments)


def test_another_thread_is_told_to_make_its_own_renderer(world):
    world.render("front", 64, 64)
    caught = []

    def render():
        try:
            world.render("front", 64, 64)
        except RenderError as error:
            caught.append(str(error))

    thread = threading.Thread(target=render)
    thread.start()
    thread.join()
    assert "thread" in caught[0]


def test_an_unknown_backend_is_refused(world, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "vulkan")
    world.close()
    with pytest.raises(RenderError, match="MUJOCO_GL: expected one of egl"):
        world.render("front", 64, 64)


def test_rendering_does_not_disturb_the_episode(world):
    target = Pose((0.45, 0.05, 0.1), (1.0, 0.0, 0.0, 0.0))

    def play(render):
        world.reset(4)
        for _ in range(5):
            world.step(target, 0.0)
            if render:
                world.render("front", 64, 64)
        return world.data.qpos.tobytes()

    assert play(render=True) == play(render=False)
    assert mujoco.mj_isSparse(world.model) == 0
