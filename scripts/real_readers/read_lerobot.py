# SPDX-License-Identifier: Apache-2.0
"""Runs where LeRobot is installed: its own class reads one dataset of ours, and writes one for us to read.

python read_lerobot.py DATASET READ.npz NEW_DATASET WRITTEN.npz
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

LIBRARY = torch.library.Library("torchvision", "FRAGMENT")


def mend_torchvision() -> None:
    """On machines without a GPU torchvision may lack its compiled operators, and LeRobot 0.4 a reader of videos."""
    try:
        import torchvision
    except RuntimeError:
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        LIBRARY.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        LIBRARY.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision
    if hasattr(torchvision.io, "VideoReader"):
        return
    import av

    class VideoReader:
        """What LeRobot uses of torchvision's class of this name, by PyAV."""

        def __init__(self, path: str, stream: str) -> None:
            self.container = av.open(path)

        def seek(self, time: float, keyframes_only: bool = False) -> None:
            stream = self.container.streams.video[0]
            self.container.seek(int(time / stream.time_base), stream=stream)

        def __iter__(self) -> Iterator[dict[str, Any]]:
            for frame in self.container.decode(video=0):
                picture = torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)
                yield {"data": picture, "pts": float(frame.pts * frame.time_base)}

    torchvision.io.VideoReader = VideoReader
    torchvision.set_video_backend = lambda _: None


def main() -> None:
    """Read, write, and say what was seen."""
    mend_torchvision()
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    source, read, target, written = map(Path, sys.argv[1:])
    dataset = LeRobotDataset("local/ours", root=source, video_backend="pyav")
    rows = [dataset[index] for index in range(len(dataset))]
    columns: dict[str, Any] = {
        key: np.stack([np.asarray(row[key]) for row in rows])
        for key in rows[0]
        if isinstance(rows[0][key], torch.Tensor)
    }
    columns["task"] = np.array([row["task"] for row in rows])
    columns["mean"] = np.asarray(dataset.meta.stats["observation.state"]["mean"])
    np.savez(read, **columns)
    print(f"LeRobotDataset read {dataset.num_episodes} episodes, {dataset.num_frames} frames, keys {sorted(columns)}")

    features = {
        "observation.state": {"dtype": "float32", "shape": (3,), "names": ["x", "y", "z"]},
        "observation.images.front": {"dtype": "video", "shape": (64, 96, 3), "names": ["height", "width", "channels"]},
        "action": {"dtype": "float32", "shape": (2,), "names": ["a", "b"]},
        "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
        "next.done": {"dtype": "bool", "shape": (1,), "names": None},
    }
    new = LeRobotDataset.create("local/theirs", 10, features, root=target, use_videos=True)
    rng = np.random.default_rng(0)
    kept: dict[str, Any] = {name: [] for name in features}
    for length in (5, 8, 3):
        shade = rng.uniform(50, 200, 3)
        for step in range(length):
            frame: dict[str, Any] = {
                "observation.state": rng.normal(size=3).astype(np.float32),
                "observation.images.front": np.full((64, 96, 3), shade + 5 * step, np.uint8),
                "action": rng.uniform(-1, 1, 2).astype(np.float32),
                "next.reward": np.array([step == length - 1], np.float32),
                "next.done": np.array([step == length - 1]),
            }
            for name, value in frame.items():
                kept[name].append(value)
            new.add_frame({**frame, "task": "push the block"})
        new.save_episode()
    new.finalize()
    kept = {name: np.stack(values) for name, values in kept.items()}
    np.savez(written, **kept)


if __name__ == "__main__":
    main()
