# SPDX-License-Identifier: Apache-2.0
"""Runs standard ROS 2 XML launch files where upstream's launch is not installed; see docs/launch.md."""

from serl_bringup.launch_runner.arguments import Argument, declared_arguments, show_args
from serl_bringup.launch_runner.errors import LaunchError
from serl_bringup.launch_runner.events import Event, Message, OutputLine, ProcessExited, ProcessStarted, shown
from serl_bringup.launch_runner.runner import LaunchRunner

__all__ = [
    "Argument",
    "Event",
    "LaunchError",
    "LaunchRunner",
    "Message",
    "OutputLine",
    "ProcessExited",
    "ProcessStarted",
    "declared_arguments",
    "show_args",
    "shown",
]
