# SPDX-License-Identifier: Apache-2.0
import difflib

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serl_cameras.crop_page.crop_file import save_crop, task_cameras
from serl_config.schema import ConfigError

HEAD = """\
# SPDX-License-Identifier: Apache-2.0
name: my_task   # 'quoted' and "doubly", ümläut
extends: pick_cube

"""
TAIL = """
# what the arm feels
state:
  - {name: tcp_position, shift: [0.5, 0.0, 0.15], scale: [0.15, 0.15, 0.15]}
"""
LAYOUTS = {
    "flow": "cameras:\n  front: {size: [128, 128]}   # over there\n  wrist: {size: [64, 48]}\n",
    "flow with crop": (
        "cameras:\n  front: {crop: [0, 0.1, 0.5, 0.5], size: [128, 128]}  # x\n  wrist: {size: [64, 48]}\n"
    ),
    "empty flow": "cameras:\n  front: { }   # all by default\n  wrist: {size: [64, 48]}\n",
    "trailing comma": "cameras: {front: {size: [128, 128],}, wrist: {size: [64, 48]}}\n",
    "several lines": "cameras:\n  front: {\n    size: [128,\n      128]\n  }\n  wrist: {size: [64, 48]}\n",
    "block": (
        "cameras:\n  front:\n    # of the picture\n    size: [128, 128] # pixels\n\n  wrist:\n    size: [64, 48]\n"
    ),
    "block with crop": (
        "cameras:\n  front:\n    crop: [0.1, 0.1, 0.2, 0.2]  # half\n    size: [128, 128]\n  wrist: {size: [64, 48]}\n"
    ),
    "block sequence": (
        "cameras:\n  front:\n    crop:\n    - 0.1\n    - 0.1\n    - 0.2\n    - 0.2  # height\n    # then\n"
        "    size: [128, 128]\n  wrist: {size: [64, 48]}\n"
    ),
    "null crop": "cameras:\n  front: {crop: null, size: [128, 128]}\n  wrist: {size: [64, 48]}\n",
    "quoted keys": "'cameras':\n  \"front\": {'size': [128, 128]}\n  wrist: {size: [64, 48]}\n",
}


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.setenv("SERL_SHARE", str(tmp_path))
    folder = tmp_path / "config/tasks"
    folder.mkdir(parents=True)

    def write(text, name="my_task"):
        path = folder / f"{name}.yaml"
        path.write_bytes(text.encode())
        return path

    return write


@st.composite
def crops(draw):
    left, top = draw(st.floats(0.0, 0.95)), draw(st.floats(0.0, 0.95))
    return left, top, draw(st.floats(0.02, 1.0 - left)), draw(st.floats(0.02, 1.0 - top))


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(crop=st.none() | crops(), line_end=st.sampled_from(["\n", "\r\n"]))
def test_only_the_crop_changes(layout, write, crop, line_end):
    text = (HEAD + LAYOUTS[layout] + TAIL).replace("\n", line_end)
    path = write(text)
    assert save_crop("my_task", "front", crop) == path
    found = path.read_bytes().decode()
    view = task_cameras("my_task")["front"]
    assert view.crop == (None if crop is None else pytest.approx(crop, abs=1.1e-4))
    # Nothing but the crop: without it, what YAML reads is the same, and so is every line but one.
    before, after = yaml.safe_load(text), yaml.safe_load(found)
    before["cameras"]["front"].pop("crop", None)
    after["cameras"]["front"].pop("crop", None)
    assert before == after
    old, new = text.splitlines(keepends=True), found.splitlines(keepends=True)
    differing = [line for line in difflib.ndiff(old, new) if line[0] in "+-"]
    assert len([line for line in differing if line[0] == "+"]) <= 1
    kept = [line[line.index("#") :] for line in old if "#" in line]
    lost = 1 if layout == "block sequence" else 0  # a comment between the numbers that are replaced
    assert len([line for line in kept if line in found]) >= len(kept) - lost
    assert ("\r" in found) == ("\r" in text) and "\n" not in found.replace(line_end, "")
    save_crop("my_task", "front", crop)
    assert path.read_bytes().decode() == found, "a second time changes nothing"


def test_the_example_of_the_documentation(write):
    path = write(HEAD + LAYOUTS["flow"])
    save_crop("my_task", "front", (0.2, 0.1, 0.5, 0.75))
    assert path.read_text() == HEAD + LAYOUTS["flow"].replace(
        "front: {size: [128, 128]}", "front: {size: [128, 128], crop: [0.2, 0.1, 0.5, 0.75]}"
    )


def test_a_task_that_inherits_its_cameras_gets_its_own(write):
    base = (HEAD + LAYOUTS["flow"] + TAIL).replace("extends: pick_cube", pick_cube_without_cameras())
    base_path = write(base.replace("my_task", "base_task"), "base_task")
    untouched = base_path.read_bytes()
    path = write("name: my_task\nextends: base_task  # no more")
    save_crop("my_task", "wrist", (0.25, 0.0, 0.5, 1.0))
    assert path.read_text() == (
        "name: my_task\nextends: base_task  # no more\n\ncameras:\n  front: {size: [128, 128]}\n"
        "  wrist: {size: [64, 48], crop: [0.25, 0.0, 0.5, 1.0]}\n"
    )
    assert base_path.read_bytes() == untouched
    assert task_cameras("my_task")["wrist"].crop == (0.25, 0.0, 0.5, 1.0)


def pick_cube_without_cameras():
    from serl_config.resources import roots

    own = next(root / "config/tasks/pick_cube.yaml" for root in roots()[1:] if (root / "config/tasks").is_dir())
    data = yaml.safe_load(own.read_text())
    data.pop("name")
    data.pop("state")
    return yaml.safe_dump(data)


def test_the_file_behind_a_link_is_written(write, tmp_path):
    path = write(HEAD + LAYOUTS["flow"])
    real = tmp_path / "mine.yaml"
    path.rename(real)
    path.symlink_to(real)
    real.chmod(0o640)
    assert save_crop("my_task", "front", (0.0, 0.0, 0.5, 0.5)) == real
    assert path.is_symlink()
    assert "crop: [0.0, 0.0, 0.5, 0.5]" in real.read_text()
    assert real.stat().st_mode & 0o777 == 0o640
    assert [file.name for file in path.parent.iterdir()] == ["my_task.yaml"]


@pytest.mark.parametrize(
    ("cameras", "camera", "crop", "text"),
    [
        (LAYOUTS["flow"], "left", (0, 0, 1, 1), "expected one of front, wrist, found 'left'"),
        (LAYOUTS["flow"], "front", (0.5, 0.5, 0.0, 0.5), "crop"),
        (LAYOUTS["flow"], "front", (-0.5, 0.0, 0.5, 0.5), "crop"),
        ("", "front", (0, 0, 1, 1), "sees nothing"),
        (
            "cameras:\n  front: &both {size: [128, 128]}\n  wrist: *both\n",
            "front",
            (0, 0, 1, 1),
            "cannot be written without changing more; edit it by hand",
        ),
        ("cameras:\n  front: {sise: [1, 2]}\n", "front", (0, 0, 1, 1), "unknown key 'cameras.front.sise'"),
    ],
)
def test_what_cannot_be_written_leaves_the_file_as_it_is(write, cameras, camera, crop, text):
    path = write(HEAD + cameras + TAIL)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=text):
        save_crop("my_task", camera, crop)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["my_task.yaml"]
