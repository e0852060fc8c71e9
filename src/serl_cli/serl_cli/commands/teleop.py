# SPDX-License-Identifier: Apache-2.0
"""``serl teleop``: devices by which a person leads."""

from pathlib import Path
from typing import Annotated, Literal, get_args

import typer
from serl_launch.errors import UsageError

from serl_cli.commands.options import GraphOption

teleop = typer.Typer(rich_markup_mode="rich", no_args_is_help=True)

Device = Literal["spacemouse", "gamepad", "keyboard", "joy", "twist", "leader", "joint_leader"]
DEVICES: tuple[str, ...] = get_args(Device)
SettingsOption = Annotated[
    Path | None,
    typer.Option(dir_okay=False, help="Parameter file, as config/teleop.yaml, which it is by default."),
]
NamespaceOption = Annotated[str, typer.Option(help="Namespace of the arm.")]


@teleop.callback()
def teleop_overview() -> None:
    """List devices by which a person leads, see what they report, and lead a running graph.

    Examples:
        ./serl teleop list
        ./serl teleop check spacemouse
        ./serl teleop lead spacemouse
    """


@teleop.command("list")
def list_devices() -> None:
    """List the devices that are plugged in."""
    from serl_feetech.found import PORTS
    from serl_teleop.devices.hid.spacemouse import space_mice

    mice = space_mice()
    for mouse in mice:
        typer.echo(f"spacemouse  {mouse.model.name:<40} {mouse.path}")
    ports = sorted(PORTS.glob("*"))
    for port in ports:
        typer.echo(f"leader?     {'serial adapter':<40} {port}")
    if not mice and not ports:
        typer.echo("no device found (joy and twist are topics: ./serl teleop check joy says whether one is published)")


@teleop.command("check")
def check(
    device: Annotated[Device, typer.Argument(help="Kind of the device.")],
    settings: SettingsOption = None,
    seconds: Annotated[float, typer.Option(min=0.0, help="End after so many seconds; 0: with Ctrl-C.")] = 0.0,
    graph: GraphOption = "",
    namespace: NamespaceOption = "",
) -> None:
    """Show live what a device reports, what it is taken for, and when you would lead. Nothing is moved.

    Examples:
        ./serl teleop check spacemouse
        ./serl teleop check joy --seconds 10
        ./serl teleop check leader
    """
    from serl_launch.needs import refuse_missing

    from serl_cli.work import check_device_node

    refuse_missing({"teleop": device})

    check_device_node.check(device, settings, seconds, graph, namespace)


@teleop.command("lead")
def lead(
    devices: Annotated[list[str], typer.Argument(help=f"Of {', '.join(DEVICES)}; the first has the highest priority.")],
    settings: SettingsOption = None,
    graph: GraphOption = "",
    namespace: NamespaceOption = "",
) -> None:
    """Lead the arm of a running graph by devices at this machine, until Ctrl-C.

    A graph that was started with the device as its [bold]teleop[/bold] has such a node already.

    Examples:
        ./serl teleop lead spacemouse
        ./serl teleop lead spacemouse joy --graph my_run
    """
    from serl_config.schema import nearest
    from serl_launch.needs import refuse_missing

    from serl_cli.work import lead_node

    unknown = [name for name in devices if name not in DEVICES]
    if unknown:
        raise UsageError(f"no device {unknown[0]!r}: there are {', '.join(DEVICES)}{nearest(unknown[0], [*DEVICES])}")
    refuse_missing({"teleop": ",".join(devices)})
    lead_node.lead(devices, settings, graph, namespace)


@teleop.command("rule")
def rule(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="Write it there; else it is shown.")] = None,
) -> None:
    """Show the udev rule that lets whoever sits at this machine read a SpaceMouse, or write it to a file.

    Nothing is installed: a file with it belongs to /etc/udev/rules.d, where the machine's administrator puts it.

    Examples:
        ./serl teleop rule
        ./serl teleop rule 70-spacemouse.rules
    """
    from serl_config.atomic_files import write_whole
    from serl_teleop.devices.hid.spacemouse import UDEV_RULE

    if file is None:
        typer.echo(UDEV_RULE)
        return
    write_whole(file, f"{UDEV_RULE}\n".encode())
    typer.echo(
        f"{file} is written. As administrator: cp {file} /etc/udev/rules.d/, udevadm control --reload; "
        "then plug the device in again"
    )
