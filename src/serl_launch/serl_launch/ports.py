# SPDX-License-Identifier: Apache-2.0
"""TCP ports that a graph listens at: who finds one taken is told by whom, before anything starts."""

from collections.abc import Mapping
from contextlib import ExitStack

from serl_config.listening import PortError, listening

from serl_launch.errors import UsageError

_AGENTLACE = ("agentlace_port", "agentlace_broadcast_port")


def refuse_taken(arguments: Mapping[str, str]) -> None:
    """Refuse a graph whose nodes would find their ports taken.

    Args:
        arguments: of one of our launch files, by their names.

    Raises:
        UsageError: names the argument, the port, and the program that has it, as far as this machine says.
    """
    if arguments.get("link") and arguments.get("side", "learner") == "learner":
        _refuse_taken_of_link(arguments["link"])
    if arguments.get("agentlace") != "true":
        return
    host = arguments.get("agentlace_host", "")
    with ExitStack() as held:
        for name in _AGENTLACE:
            value = arguments.get(name, "")
            if not value.isdecimal() or not 0 < int(value) < 2**16:
                raise UsageError(f"{name}:={value}: expected a TCP port, 1 to 65535")
            try:
                held.enter_context(listening(host, int(value), hint=f"end that or give another {name}:="))
            except PortError as error:
                raise UsageError(str(error)) from error


def _refuse_taken_of_link(link: str) -> None:
    from serl_link.carried import endpoint
    from serl_link.session import listening_address

    host, port = endpoint(link)
    try:
        with listening(listening_address(host), port, hint="end that or give link:= another port on both machines"):
            pass
    except PortError as error:
        raise UsageError(f"link:={link}: {error}") from error
