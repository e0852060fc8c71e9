# SPDX-License-Identifier: Apache-2.0
"""``serl camera``: which cameras there are, what they see, and what the policy sees of it."""

from typing import Annotated

import typer

from serl_cli.commands.options import GraphOption, TaskArgument

camera = typer.Typer(rich_markup_mode="rich", no_args_is_help=True)

CameraOption = Annotated[str, typer.Option("--camera", help="Only this camera; all of the task's without it.")]
HostOption = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")]
PortOption = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any.")]
NamespaceOption = Annotated[str, typer.Option(help="Namespace of the arm.")]


@camera.callback()
def camera_overview() -> None:
    """List cameras, look at their live pictures in a browser, choose what the policy sees of them.

    Examples:
        ./serl camera list
        ./serl camera show pick_cube_vision
        ./serl camera crop pick_cube_vision --camera wrist
    """


@camera.command("list")
def list_devices() -> None:
    """List the cameras that are plugged in, with the parameter that the camera node wants for each."""
    from serl_cameras.devices import realsense_devices, v4l2_devices

    realsense = realsense_devices()
    devices = [*v4l2_devices(), *(realsense or [])]
    for device in devices:
        typer.echo(f"{device.source:<10} {device.name:<32} {device.parameter}: {device.value}")
    if not devices:
        typer.echo("no camera found")
    if realsense is None:
        typer.echo("(RealSense cameras are looked for once pyrealsense2 is installed: pip install pyrealsense2)")


@camera.command("show")
def show(
    task: TaskArgument,
    only: CameraOption = "",
    host: HostOption = "127.0.0.1",
    port: PortOption = 8090,
    graph: GraphOption = "",
    namespace: NamespaceOption = "",
) -> None:
    """Show the live pictures of a task's cameras in a browser, and what the policy sees of them."""
    from serl_launch.clients import camera_page_node

    camera_page_node.show(task, only, editable=False, host=host, port=port, graph=graph, namespace=namespace)


@camera.command("crop")
def crop(
    task: TaskArgument,
    only: CameraOption = "",
    host: HostOption = "127.0.0.1",
    port: PortOption = 8090,
    graph: GraphOption = "",
    namespace: NamespaceOption = "",
) -> None:
    """Choose in a browser what the policy sees of each camera, and save it in the task's file.

    The graph with the cameras must be running; what runs takes the new crop when it is started again.
    """
    from serl_launch.clients import camera_page_node

    camera_page_node.show(task, only, editable=True, host=host, port=port, graph=graph, namespace=namespace)
