# SPDX-License-Identifier: Apache-2.0
"""LeRobot runs with the packages that are here, which are newer than those that it asks for."""

import fractions
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

av = pytest.importorskip("av", reason="./serl setup lerobot")
torch = pytest.importorskip("torch", reason="./serl setup torch")
pytest.importorskip("lerobot", reason="./serl setup lerobot")

from serl_lerobot.video_reader import VideoReader  # noqa: E402

from serl_lerobot import compat  # noqa: E402

FPS = 10


@pytest.fixture
def video(tmp_path):
    """Thirty grey frames, each three levels brighter than the one before, with a key frame at every eighth."""
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"g": "8", "crf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
        stream.time_base = fractions.Fraction(1, FPS)
        for index in range(30):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 + 3 * index, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_frames_are_those_of_their_times(video):
    frames = list(VideoReader(str(video)))
    assert [frame["pts"] for frame in frames] == pytest.approx([index / FPS for index in range(30)])
    assert {tuple(frame["data"].shape) for frame in frames} == {(3, 48, 64)}
    levels = [float(frame["data"].float().mean()) for frame in frames]
    np.testing.assert_allclose(levels, 40 + 3 * np.arange(30), atol=1.0)


def test_who_seeks_stands_before_the_time_or_at_it(video):
    reader = VideoReader(str(video)).seek(1.9, keyframes_only=True)
    first = next(iter(reader))
    assert 1.1 <= first["pts"] <= 1.9
    assert float(first["data"].float().mean()) == pytest.approx(40 + 30 * first["pts"], abs=1.0)


def test_lerobot_decodes_the_frames_that_it_asks_for(video):
    module = compat.load("lerobot.datasets.video_utils")
    found = module.decode_video_frames(str(video), [0.3, 2.1], tolerance_s=0.01, backend="pyav")
    np.testing.assert_allclose(found.float().mean(dim=(1, 2, 3)) * 255, [49, 103], atol=1.0)


def test_what_is_no_video_is_named(tmp_path):
    with pytest.raises(ValueError, match="expected the stream 'video', found 'audio'"):
        VideoReader("film.mp4", "audio")
    path = tmp_path / "film.mp4"
    path.write_bytes(b"no film")
    with pytest.raises(OSError, match=r"film\.mp4"):
        VideoReader(str(path))


def test_the_commands_of_the_workspace_are_those_of_lerobot(monkeypatch):
    from serl_lerobot import __main__ as commands

    ran = []
    monkeypatch.setattr(commands, "load", lambda module: SimpleNamespace(main=lambda: ran.append((module, sys.argv))))
    monkeypatch.setattr(sys, "argv", ["/bin/lerobot-edit-dataset", "--root=x"])
    commands.command()
    monkeypatch.setattr(sys, "argv", ["serl_lerobot", "edit-dataset", "--root=x"])
    commands.main()
    assert ran == [("lerobot.scripts.lerobot_edit_dataset", ["lerobot-edit-dataset", "--root=x"])] * 2


def test_the_environment_finds_them_before_those_of_its_distribution():
    command = shutil.which("lerobot-record")
    assert command is not None and Path(command).parts[-3:-1] == ("serl_lerobot", "bin"), command


def test_lerobot_finds_the_plugins_by_itself():
    compat.load("lerobot.utils.import_utils").register_third_party_plugins()
    for module, name in (("robots", "Robot"), ("teleoperators", "Teleoperator"), ("cameras", "Camera")):
        config = getattr(compat.load(f"lerobot.{module}"), f"{name}Config")
        assert "serl" in config.get_known_choices()
