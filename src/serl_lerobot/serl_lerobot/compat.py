# SPDX-License-Identifier: Apache-2.0
"""LeRobot's modules, imported when they are needed, on machines without a GPU as well."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType, SimpleNamespace
from typing import Any, Final

from serl_lerobot.video_reader import VideoReader

_MISSING_KERNEL: Final = "operator torchvision::nms does not exist"
_kept: list[Any] = []  # what torch has been told about operators lasts as long as this


class LeRobotMissing(ImportError):
    """LeRobot, or something of it that is needed here, is not installed; one line that says what brings it."""


def is_installed() -> bool:
    """Whether LeRobot is there; imports nothing."""
    return importlib.util.find_spec("lerobot") is not None


def load(module: str) -> ModuleType:
    """A module of LeRobot by its full name, as `lerobot.robots`.

    Raises:
        LeRobotMissing: LeRobot or something that this module needs is not installed.
    """
    if not is_installed():
        raise LeRobotMissing(f"{module}: LeRobot is not installed: ./serl setup lerobot")
    try:
        _make_torchvision_importable()
        _name_options_of_av()
        return importlib.import_module(module)
    except ImportError as error:
        raise LeRobotMissing(
            f"{module} cannot be imported: {error}; ./serl setup lerobot brings what it needs"
        ) from error


def _make_torchvision_importable() -> None:
    """Declare the operators that torchvision looks for, where its compiled part is one for CUDA and does not load.

    LeRobot uses none of them. What it uses and torchvision no longer has is put in its place.
    """
    if importlib.util.find_spec("torchvision") is None:
        return
    _import_torchvision()
    io = importlib.import_module("torchvision.io")
    if not hasattr(io, "VideoReader"):
        io.VideoReader = VideoReader  # type: ignore[attr-defined]


def _name_options_of_av() -> None:
    """Put a class in the place of `av.option.Option`, which av 18 has no more: LeRobot 0.6 annotates by it."""
    if importlib.util.find_spec("av") is None:
        return
    av = importlib.import_module("av")
    if not hasattr(av, "option"):
        av.option = SimpleNamespace(Option=object)  # type: ignore[attr-defined]


def _import_torchvision() -> None:
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if _MISSING_KERNEL not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        torch = importlib.import_module("torch")
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)
        importlib.import_module("torchvision")
