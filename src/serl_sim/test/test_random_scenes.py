# SPDX-License-Identifier: Apache-2.0
"""Random looks and the labels of what is to be seen under them."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from serl_robots.model.pose import Pose
from serl_sim.pictures.random_scenes import SceneRange, label_table, labelled_pictures
from serl_sim.pictures.randomize import LookRange, RandomLooks
from serl_sim.world import World
from serl_tasks.objects.mounts import HingeMount
from serl_tasks.objects.scene_object import SceneObject
from serl_tasks.objects.solid import Solid

from serl_tasks import get_task, task_names

TASK = get_task("pick_cube_vision")
PLAIN = LookRange(plain=1.0)
WILD = LookRange(plain=0.0, recoloured=1.0, textured=1.0)


@pytest.fixture(scope="module")
def looks_of():
    """Looks at a world of its own for each range, with the world."""
    made = {}

    def make(looks):
        if looks not in made:
            world = World(TASK)
            made[looks] = (RandomLooks(world, looks), world)
        looks, world = made[looks]
        world.reset(0)
        return looks, world

    yield make
    for looks, world in made.values():
        looks.close()
        world.close()


def columns(name):
    start = 0
    for label in label_table(TASK):
        if label.name == name:
            return slice(start, start + label.size)
        start += label.size
    raise KeyError(name)


def test_a_plain_look_is_what_the_world_looks_like(looks_of):
    looks, world = looks_of(PLAIN)
    looks.draw(np.random.default_rng(0))
    looks.show()
    for camera in TASK.cameras:
        np.testing.assert_array_equal(looks.render(camera, 128, 128), world.render(camera, 128, 128))


def test_looks_differ_and_leave_the_world_as_it_is(looks_of):
    looks, world = looks_of(WILD)
    state, pictures = world.data.qpos.copy(), {name: world.render(name, 64, 64) for name in TASK.cameras}
    rng = np.random.default_rng(0)
    seen = []
    for _ in range(4):
        looks.draw(rng)
        looks.show()
        seen.append(looks.render("front", 64, 64).astype(int))
    for index, picture in enumerate(seen):
        assert np.abs(picture - pictures["front"]).mean() > 5.0
        assert all(np.abs(picture - other).mean() > 5.0 for other in seen[:index])
    np.testing.assert_array_equal(world.data.qpos, state)
    for name, picture in pictures.items():
        np.testing.assert_array_equal(world.render(name, 64, 64), picture)


@pytest.mark.parametrize(
    ("look", "fields"),
    [
        ({"light": 0.5}, {"light_diffuse"}),
        ({"light_tilt": 0.5}, {"light_dir"}),
        ({"tint": 0.1}, {"geom_rgba"}),
        ({"recoloured": 1.0}, {"geom_rgba"}),
        ({"textured": 1.0}, {"geom_matid", "mat_texrepeat"}),
        ({"camera_shift": 0.01}, {"cam_pos"}),
        ({"camera_turn_deg": 1.0}, {"cam_quat"}),
        ({"camera_fovy_deg": 1.0}, {"cam_fovy"}),
    ],
    ids=min,
)
def test_each_setting_changes_what_it_says_and_nothing_else(looks_of, look, fields):
    looks, _ = looks_of(LookRange(**(dict.fromkeys(asdict(PLAIN), 0.0) | look)))
    names = (
        "light_diffuse",
        "light_dir",
        "geom_rgba",
        "geom_matid",
        "mat_texrepeat",
        "cam_pos",
        "cam_quat",
        "cam_fovy",
    )
    before = {name: getattr(looks._model, name).copy() for name in names}
    looks.draw(np.random.default_rng(3))
    changed = {name for name in names if not np.allclose(getattr(looks._model, name), before[name], atol=1e-6)}
    assert changed == fields


def test_labels_say_where_the_cube_is_in_the_picture():
    scenes = SceneRange(looks=LookRange(plain=0.0, textured=0.0, recoloured=0.0, tint=0.0, light=0.0), sharp=0.5)
    found = labelled_pictures(TASK, scenes, 60, 0)
    checked = 0
    for rows in found.values():
        seen, place = rows.labels[:, columns("cube_seen")][:, 0], rows.labels[:, columns("cube_in_picture")]
        for picture, is_seen, (right, down) in zip(rows.pictures, seen, place, strict=True):
            red, green, blue = (picture[..., channel].astype(int) for channel in range(3))
            reddish = (red > 100) & (red > 2 * green) & (red > 2 * blue)
            y, x = np.nonzero(reddish)
            if not is_seen or len(x) < 12 or reddish[[0, -1]].any() or reddish[:, [0, -1]].any():
                continue
            column, row = (right + 1.0) * 64.0, (down + 1.0) * 64.0
            assert x.min() - 2 <= column <= x.max() + 2
            assert y.min() - 2 <= row <= y.max() + 2
            checked += 1
    assert checked > 20


def test_what_a_camera_cannot_tell_has_no_weight():
    found = labelled_pictures(TASK, SceneRange(absent=1.0, wander=0.0, looks=PLAIN), 40, 0)
    fixed, carried = found["front"], found["wrist"]
    assert (fixed.labels[-20:, columns("cube_seen")] == 0.0).all()
    for name in ("cube_in_picture", "cube_position", "cube_from_tcp"):
        assert (fixed.weights[-20:, columns(name)] == 0.0).all()
    assert (fixed.weights[:, columns("tcp_position")] == 1.0).all()
    assert (carried.weights[:, columns("tcp_position")] == 0.0).all()
    for rows in found.values():
        assert np.isfinite(rows.labels).all()
        assert (rows.labels[rows.weights == 0.0] == 0.0).all()
        assert np.abs(rows.labels).max() < 20.0


def test_there_is_all_that_a_policy_may_see():
    rows = labelled_pictures(TASK, SceneRange(looks=PLAIN), 300, 1)["wrist"]
    width = rows.labels[:, columns("gripper_width")]
    near = np.abs(rows.labels[:, columns("cube_from_tcp")]).max(axis=1) < 0.2
    seen = rows.labels[:, columns("cube_seen")][:, 0] == 1.0
    assert width.min() < -0.8
    assert width.max() > 0.8
    assert 0.05 < (near & seen).mean() < 0.9
    assert 0.02 < 1.0 - seen.mean() < 0.7


def test_the_same_seed_gives_the_same_pictures():
    first, again = (labelled_pictures(TASK, SceneRange(), 5, 7) for _ in range(2))
    other = labelled_pictures(TASK, SceneRange(), 5, 8)
    for name, rows in first.items():
        np.testing.assert_array_equal(rows.pictures, again[name].pictures)
        np.testing.assert_array_equal(rows.labels, again[name].labels)
        assert (rows.pictures != other[name].pictures).any()


def test_a_task_without_cameras_is_refused():
    with pytest.raises(ValueError, match="'pick_cube': expected cameras, found none"):
        labelled_pictures(get_task("pick_cube"), SceneRange(), 1, 0)


def test_a_view_projects_what_is_behind_it_to_nothing(looks_of):
    looks, world = looks_of(PLAIN)
    world.reset(0, {"cube": Pose((0.5, 0.0, 0.02))})
    looks.show()
    view = looks.view("front")
    ahead = view.position - view.rotation[:, 2]
    assert view.project(ahead, 100, 60) == pytest.approx((50.0, 30.0))
    assert view.project(view.position + view.rotation[:, 2], 100, 60) is None


STRESS = SceneRange(looks=PLAIN, wander=2.0, steps=2, absent=0.3, anywhere=0.3)
JOINED = {
    "insert_peg_vision": ("peg", "tcp"),
    "open_drawer_vision": ("lever", "cabinet"),
    "route_cable_vision": ("cable", "tcp"),
}
"""Objects whose distance from what carries them never changes: held, hinged, and the held end of what is flexible."""


def with_a_lever(task):
    """The drawer's task with a lever that is hinged at the cabinet's corner, 15 cm from its origin."""
    lever = SceneObject(
        mount="hinged",
        mass=0.1,
        colour=(0.2, 0.7, 0.3),
        hinge=HingeMount(base="cabinet", position=(0.0, 0.12, 0.09), axis=(0.0, 0.0, 1.0), reach_deg=120.0),
        parts=(Solid(size=(0.08, 0.01, 0.01), position=(-0.05, 0.0, 0.0)),),
    )
    return replace(task, objects={**task.objects, "lever": lever})


@pytest.mark.parametrize("name", [name for name in task_names() if name.endswith("_vision")])
def test_scenes_are_drawn_of_objects_however_they_are_mounted(name):
    task = get_task(name)
    if name == "open_drawer_vision":
        task = with_a_lever(task)
    table, start = {}, 0
    for label in label_table(task):
        table[label.name] = slice(start, start + label.size)
        start += label.size
    rows = labelled_pictures(task, STRESS, 60, 0)["front"]
    assert np.isfinite(rows.labels).all()
    assert len(np.unique(rows.pictures.reshape(60, -1), axis=0)) > 30, "scenes differ"
    for item in task.objects:
        assert (rows.weights[:, table[f"{item}_seen"]] == 1.0).all()
        assert rows.labels[:, table[f"{item}_seen"]].max() == 1.0, "each is seen now and then"
    if name in JOINED:
        item, base = JOINED[name]
        position, origin = (rows.labels[:, table[f"{each}_position"]] for each in (item, base))
        known = (rows.weights[:, table[f"{item}_position"]] * rows.weights[:, table[f"{base}_position"]])[:, 0] > 0.0
        distances = np.linalg.norm(position - origin, axis=1)[known]
        assert len(distances) > 10
        assert distances == pytest.approx(distances[0], abs=1e-4)
        assert distances[0] == pytest.approx({"peg": 0.1, "cable": 0.1, "lever": 1.5}[item], abs=1e-4)
