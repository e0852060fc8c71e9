# SPDX-License-Identifier: Apache-2.0
"""Shows live what a device reports, and what the node `teleop` would make of it."""

import time
from collections.abc import Callable
from pathlib import Path

import rclpy
from rclpy.signals import SignalHandlerOptions
from rich.console import Console
from rich.live import Live
from rich.text import Text
from serl_launch.clients.client_node import OPERATOR
from serl_launch.errors import CommandError, Interrupted
from serl_ros.execution.executor import FastExecutor
from serl_ros.parameters import declare
from serl_teleop.devices.axes import TOOL_AXES
from serl_teleop.devices.hand import Hand
from serl_teleop.devices.kinds import KINDS
from serl_teleop.devices.operator import Intent, Operator
from serl_teleop.open_devices_node import declare_settings, opener

from serl_cli.work.lead_node import settings_file
from serl_launch import domain
from serl_tasks import get_task, task_names

_PERIOD = 0.02  # [s] between two looks, as of the node
_SHOWN_EVERY = 0.1  # [s]
_TOPICS = ("joy", "twist", "joint_leader")


def check(device: str, settings: Path | None, seconds: float, graph: str, namespace: str) -> None:
    """Shows a device until Ctrl-C, or for some seconds.

    Args:
        device: its kind.
        settings: parameter file; None: config/teleop.yaml.
        seconds: after which it ends; 0: never.
        graph: where the topic of a device is; name of a running graph.
        namespace: of the arm.

    Raises:
        CommandError: the settings cannot be meant so, there is no such graph, or the device never reported anything.
        Interrupted: a person pressed Ctrl-C.
    """
    if device in _TOPICS or graph:
        domain.join(graph)
    context = rclpy.Context()
    rclpy.init(args=list(OPERATOR), context=context, signal_handler_options=SignalHandlerOptions.NO)
    arguments = ["--ros-args", "--params-file", str(settings_file(settings))]
    node = rclpy.create_node(
        f"_serl_check_{time.time_ns() % 10**9}", context=context, namespace=namespace or None, cli_args=arguments
    )
    executor = FastExecutor(context=context)
    executor.add_node(node)
    try:
        try:
            operator = Operator(device, declare_settings(node, KINDS[device]))
            task = get_task(
                declare(node, "task", "pick_cube", "Task whose robot a leader arm leads.", choices=task_names())
            )
            hand = Hand(operator, opener(node, device, task))
        except ValueError as error:
            raise CommandError(str(error)) from error
        _show(hand, seconds, lambda: executor.spin_once(_PERIOD))
    except KeyboardInterrupt:
        raise Interrupted("no longer looking at the device") from None
    finally:
        executor.shutdown(timeout_sec=1.0)
        node.destroy_node()
        context.try_shutdown()


def _show(hand: Hand, seconds: float, spin: Callable[[], None]) -> None:
    console = Console()
    operator = hand.operator
    for line in operator.lines:
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
    end = time.monotonic() + seconds if seconds else float("inf")
    due, heard, last = 0.0, False, ""
    with Live(console=console, auto_refresh=False, transient=True) as live:
        try:
            while (now := time.monotonic()) < end:
                begin = now
                spin()
                intent = hand.ask(1.0, now)
                heard = heard or hand.state is not None
                for word in intent.words:
                    console.print(f"{operator.name}: {word.value}", highlight=False, soft_wrap=True)
                line = _line(hand, intent)
                if now >= due and line != last:
                    due, last = now + _SHOWN_EVERY, line
                    if console.is_terminal:
                        live.update(Text(line), refresh=True)
                    else:
                        console.print(line, highlight=False, markup=False, soft_wrap=True)
                time.sleep(max(0.0, begin + _PERIOD - time.monotonic()))
        finally:
            hand.close()
    if not heard:
        raise CommandError(f"{operator.name}: {hand.problem}")


def _line(hand: Hand, intent: Intent) -> str:
    state = hand.state
    if state is None or intent.problem:
        return f"{intent.phase.value}: {intent.problem}" if intent.problem else intent.phase.value
    axes = state.shown or " ".join(f"{value:+.2f}" for value in state.twist)
    wanted = " ".join(f"{name} {value:+.2f}" for name, value in zip(TOOL_AXES, intent.twist, strict=True) if value)
    if intent.motion is not None:
        wanted = " ".join(f"{name} {value:+.3f}" for name, value in zip(TOOL_AXES, intent.motion, strict=True) if value)
    buttons = " ".join(sorted(state.buttons))
    grip = "" if intent.gripper is None else f" gripper {intent.gripper:+.0f}"
    return f"[{axes}] {buttons} → {intent.phase.value} {wanted}{grip}".rstrip()
