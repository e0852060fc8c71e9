# SPDX-License-Identifier: Apache-2.0
"""Shows the cameras of a running graph in a browser, and writes the crops that a person chooses."""

import getpass
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import typer
from aiohttp import web
from serl_cameras.crop_page.crop_file import save_crop, task_cameras
from serl_cameras.crop_page.crop_server import CropServer
from serl_cameras.crop_page.graph_camera_listener import CameraListener
from serl_config.listening import PortError, listening

from serl_launch import domain
from serl_launch.clients.client_node import Client
from serl_launch.errors import CommandError, UsageError


def show(task: str, camera: str, *, editable: bool, host: str, port: int, graph: str, namespace: str) -> None:
    """Serves the page until Ctrl-C.

    Args:
        task: whose cameras are shown.
        camera: only this one; empty: all of the task.
        editable: whether crops can be chosen and saved.
        host: address to listen on.
        port: to listen on; 0: any that is free.
        graph: name of the running graph, as `domain.join` takes it.
        namespace: of the arm whose cameras they are.

    Raises:
        UsageError: the task has no such camera.
        CommandError: the port is taken, or no or several graphs could be meant.
        ConfigError: the task has no such file, or sees nothing.
    """
    views = task_cameras(task)
    if camera and camera not in views:
        raise UsageError(f"task {task} has no camera {camera!r}; it has {', '.join(views)}")
    if camera:
        views = {camera: views[camera]}
    domain.join(graph)
    save = partial(save_crop, task) if editable else None
    try:
        with listening(host, port, hint="choose with --port") as on, Client(namespace) as client:
            listener = CameraListener(client.node, list(views))
            server = CropServer(f"Cameras of {task}", views, listener.newest, save, host)
            _say_where(host, on.getsockname()[1], server.address_path)
            with _spinning(client):
                web.run_app(server.app, sock=on, print=None, access_log=None)
    except PortError as error:
        raise CommandError(str(error)) from error


@contextmanager
def _spinning(client: Client) -> Iterator[None]:
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            client.executor.spin_once(0.1)

    thread = threading.Thread(target=spin, name="spin")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _say_where(host: str, port: int, path: str) -> None:
    shown = "localhost" if host in ("127.0.0.1", "0.0.0.0", "::1", "::") else host
    typer.echo(f"Open in a browser:  http://{shown}:{port}{path}")
    if host in ("127.0.0.1", "::1"):
        typer.echo(
            f"From another machine, first:  ssh -L {port}:localhost:{port} {getpass.getuser()}@{socket.gethostname()}"
        )
    typer.echo("Ctrl-C ends it.")
