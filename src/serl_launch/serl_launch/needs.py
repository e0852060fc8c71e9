# SPDX-License-Identifier: Apache-2.0
"""Optional packages that a graph needs: who lacks one is told what brings it, before anything starts.

A node says the same, in one line, where it is started otherwise.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from serl_config.optional import missing

from serl_launch.errors import UsageError

_NO_DRIVER = ("", "none")


def refuse_missing(arguments: Mapping[str, str]) -> None:
    """Refuse a graph whose nodes need an optional package that is not installed.

    Args:
        arguments: of one of our launch files, by their names; those that are not given are as the file has them.

    Raises:
        UsageError: names the package, what needs it and what brings it.
        ConfigError: a file that an argument names is wrong.
    """
    for line in _missing(arguments):
        if line:
            raise UsageError(line)


def _missing(arguments: Mapping[str, str]) -> Iterator[str]:
    if "gamepad" in arguments.get("teleop", "").split(","):
        yield missing("a game pad", ["sdl2"], "gamepad")
    if arguments.get("planner") == "ompl":
        yield missing("planner:=ompl", ["ompl", "ruckig"], "planning")
    if arguments.get("raw"):
        yield missing("a bag of all topics", ["mcap"], "recordings")
    if arguments.get("agentlace") == "true":
        yield missing("agentlace:=true", ["zmq", "lz4"], "agentlace")
    if arguments.get("trainer"):
        yield missing("a trainer of agentlace", ["zmq", "lz4"], "agentlace")
        yield _wrong_trainer(arguments["trainer"])
    if arguments.get("link"):
        yield _missing_of_link(arguments)
    driver = arguments.get("driver", "")
    if driver not in _NO_DRIVER and arguments.get("hardware") != "mock":
        yield _missing_of_driver(driver, emulated=arguments.get("hardware") == "emulated")
    if arguments.get("learning") and arguments.get("task"):
        yield _missing_of_learning(arguments)


def _wrong_trainer(text: str) -> str:
    from serl_training.agentlace.trainer_link import TrainerAddress

    try:
        TrainerAddress.parse(text)
    except ValueError as error:
        return f"trainer:={text}: {error}"
    return ""


def _missing_of_link(arguments: Mapping[str, str]) -> str:
    """What is wrong with the link of two machines: its keys, its side, or a network that is open beside it."""
    from serl_link.carried import LinkError, endpoint
    from serl_link.keys import SIDES, read_keys
    from serl_security.certificates import KeysError

    side = arguments.get("side", "learner")  # learner.launch.xml has no other
    folder = arguments.get("link_keys", "keys")
    if side not in SIDES:
        return f"link:= joins two machines: expected side:=robot or side:=learner, found side:={side}"
    if os.environ.get("SERL_NETWORK", "off") not in ("", "off"):
        return "link:= and an open network: what it refuses comes in beside it; leave out --network and SERL_NETWORK"
    if line := missing("link:=", ["zenoh", "cryptography"], "link"):
        return line
    try:
        host, _ = endpoint(arguments["link"])
        names = read_keys(Path(folder), side).names
    except (KeysError, LinkError) as error:
        return f"link_keys:={folder}: {error}" if isinstance(error, KeysError) else str(error)
    if side == "learner" and host not in names:
        return f"link:={arguments['link']}: the certificate in {folder} names {', '.join(names)}, not {host}"
    return ""


def _missing_of_driver(name: str, *, emulated: bool) -> str:
    from serl_drivers.config import driver_names, load_driver

    known = driver_names()
    if emulated and f"{name}_emulated" in known:
        name = f"{name}_emulated"
    return load_driver(name).missing if name in known else ""


def _missing_of_learning(arguments: Mapping[str, str]) -> str:
    """An actor computes only where it is given pictures."""
    from serl_rl.backends import BackendError, check_backend, check_devices
    from serl_rl.devices import DeviceError
    from serl_training.link.contract import load_learning

    from serl_tasks import get_task

    task = get_task(arguments["task"])
    nodes = arguments.get("learning_nodes", "true") == "true"
    learner = arguments.get("learner", "true") == "true"
    if nodes and (learner or task.cameras):
        try:
            config = load_learning(arguments["learning"], task)
            check_backend(config.backend)
            if learner:
                check_devices(config)
        except (BackendError, DeviceError) as error:
            return str(error)
    return ""
