# SPDX-License-Identifier: Apache-2.0
"""Calls the arms' e-stop services from the command line: every arm of this user, wherever it runs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import typer

from serl_launch import domain
from serl_launch.clients import arms
from serl_launch.errors import CommandError

if TYPE_CHECKING:
    from serl_launch.clients.client_node import Client

_STOP, _RESET = "/arm/estop", "/arm/reset_estop"
_SECURED = "ROS_SECURITY_ENABLE"
_MOST_DOMAINS = 32  # that are looked at; those of known arms come first
_DISCOVERY = 0.4  # [s] in which arms that no process of this machine stands for show up
_SEARCH = 2.0  # [s] after which there is no arm, where none has shown up
_ANSWER = 0.6  # [s] after it was found in which an arm must have answered
_RELEASE = 2.0  # [s] in which the arm to be released must have answered
_TURN = 0.005  # [s] that each domain is listened to before the next has its turn


@dataclass
class _Arm:
    """An arm that may answer, in one domain."""

    domain_id: int
    namespace: str
    processes: list[arms.LocalArm] = field(default_factory=list)
    halted: list[bool] = field(default_factory=list)  # which of them took the signal
    client: Any = None  # of its service
    future: Any = None
    owner_is_known: bool = False
    foreign: bool = False  # run by another user of this machine

    def __str__(self) -> str:
        numbers = "".join(f", process {process.pid}" for process in self.processes)
        return f"{self.namespace}/arm (domain {self.domain_id}{numbers})"

    @property
    def answer(self) -> Any:
        """Answer of its service; None while there is none."""
        return self.future.result() if self.future is not None and self.future.done() else None

    @property
    def settled(self) -> bool:
        """Whether there is nothing to wait for."""
        return self.foreign or self.answer is not None or bool(self.stopped_process)

    @property
    def stopped_process(self) -> int:
        """Number of a process of it that a signal has stopped: it cannot answer. 0 when there is none."""
        return next((process.pid for process in self.processes if process.state() in ("T", "t")), 0)


def stop(graph: str, namespace: str) -> None:
    """Stops every arm of this user; stopping too much does no harm.

    Arm controllers on this machine are told by a signal at once, then asked over ROS, as are all others that are found.

    Args:
        graph: only the arms of this graph; empty: of all.
        namespace: only arms in it; empty: in any.

    Raises:
        CommandError: there is no arm, or one could not be stopped; those that could are stopped.
    """
    found, domains = _known(graph, namespace)
    for arm in found:
        arm.halted = [process.halt() for process in arm.processes]

    try:  # not before: the signal needs no working ROS
        from std_srvs.srv import SetBool

        import serl_launch.clients.client_node  # noqa: F401
    except ImportError as error:
        told = ", ".join(str(arm) for arm in found if all(arm.halted)) or "none"
        raise CommandError(
            f"no arm can be asked, as ROS 2 cannot be imported ({error}); told to stop by a signal: {told}; use the "
            "button on the robot"
        ) from error
    with _asked(found, domains, namespace, _STOP, SetBool, SetBool.Request(data=True)):
        failures = []
        for arm in found:
            if arm.foreign:
                typer.echo(f"left alone: {arm}, a process of another user")
            elif reason := _why_not(arm):
                failures.append(f"{arm}: {reason}")
            else:
                typer.echo(f"stopped {arm}; ./serl reset-estop releases it")
        sys.stdout.flush()
    if failures:
        raise CommandError(f"NOT stopped: {'; '.join(failures)}; use the button on the robot")
    if all(arm.foreign for arm in found):
        raise CommandError(_nothing_found(graph, namespace, domains))


def reset(graph: str, namespace: str) -> None:
    """Releases the e-stop of one arm.

    Args:
        graph: the arm's graph; needed when arms of several could be meant.
        namespace: of the arm; needed when there are several.

    Raises:
        CommandError: there is no arm or more than one could be meant, or the arm refuses.
    """
    from std_srvs.srv import Trigger

    found, domains = _known(graph, namespace)
    chosen = domain.environment_domain()
    if chosen is not None and not graph:
        found, domains = [arm for arm in found if arm.domain_id == chosen], [chosen]

    def only_one(candidates: Sequence[_Arm]) -> bool:
        return sum(not arm.foreign for arm in candidates) == 1

    with _asked(found, domains, namespace, _RESET, Trigger, Trigger.Request(), only_one):
        pass
    own = [arm for arm in found if not arm.foreign]
    if not own:
        raise CommandError(_nothing_found(graph, namespace, domains))
    if len(own) > 1:
        names = ", ".join(str(arm) for arm in own)
        raise CommandError(f"several arms could be meant: {names}; choose with --graph, --namespace or ROS_DOMAIN_ID")
    if reason := _why_not(own[0]):
        raise CommandError(f"{own[0]}: not released: {reason}")
    typer.echo(f"released {own[0]}; it holds on until it is led again")


def _known(graph: str, namespace: str) -> tuple[list[_Arm], list[int]]:
    """Arms for which processes of this machine stand, and the domains in which there may be more."""
    running = domain.running_graphs()
    if graph:
        domains = [each.domain_id for each in running if each.name == graph]
        if not domains:
            names = ", ".join(each.name for each in running) or "none"
            raise CommandError(f"no graph {graph!r} runs; running: {names}")
    else:
        domains = [each.domain_id for each in running]
    found: dict[tuple[int, str], _Arm] = {}
    for process in arms.local_arms():
        key = process.domain_id, process.namespace
        if (not graph or process.domain_id in domains) and _is_meant(process.namespace, namespace):
            found.setdefault(key, _Arm(*key)).processes.append(process)
    if not graph:
        domains = [arm.domain_id for arm in found.values()] + domains
        domains += [_environment_domain(), *domain.used_domains()]
    return list(found.values()), list(dict.fromkeys(domains))[:_MOST_DOMAINS]


def _environment_domain() -> int:
    try:
        return domain.environment_domain() or 0
    except CommandError:  # a stop is not refused for a variable that is wrong
        return 0


def _is_meant(namespace: str, wanted: str) -> bool:
    return not wanted or namespace.strip("/") == wanted.strip("/")


@contextmanager
def _asked(
    found: list[_Arm],
    domains: Sequence[int],
    namespace: str,
    service: str,
    service_type: type,
    request: Any,
    go: Callable[[Sequence[_Arm]], bool] = lambda _: True,
) -> Iterator[None]:
    """Looks for arms in all domains at once and calls a service of each; what is found is added to `found`.

    Arms are asked as soon as they show up, or, for a release, when all had time to show up and `go` says so. To leave
    the domains takes a while, so what is to be said is said within.
    """
    with ExitStack() as stack:
        clients: dict[int, Client] = {}
        for domain_id in domains:
            try:
                clients[domain_id] = stack.enter_context(_join(domain_id))
            except RuntimeError:  # of rclpy: arms there do not answer, which is told of those that are known
                continue
        started = time.monotonic()
        at_once = service == _STOP
        patience = _ANSWER if at_once else _RELEASE
        last_found = 0.0
        while (waited := time.monotonic() - started) < (last_found + patience if found else _SEARCH):
            if found and waited >= _DISCOVERY and all(arm.settled for arm in found):
                break
            for domain_id, client in clients.items():
                if _discover(found, client, domain_id, namespace, service):
                    last_found = waited
                for arm in found:
                    if arm.domain_id == domain_id and not (arm.processes or arm.owner_is_known):
                        _find_owner(arm, client)
            if at_once or (waited >= _DISCOVERY and go(found)):
                for arm in found:
                    _call(arm, clients.get(arm.domain_id), service, service_type, request, waited)
            elif found and waited >= _DISCOVERY:
                break
            for client in clients.values():
                client.executor.spin_once(_TURN)
        yield


def _join(domain_id: int) -> Client:
    """A client in a domain, without keys where DDS does not take part there with those that there are."""
    from serl_launch.clients.client_node import Client

    try:
        return Client(domain_id=domain_id)
    except RuntimeError:
        if os.environ.get(_SECURED) != "true":
            raise
    os.environ[_SECURED] = "false"
    try:
        return Client(domain_id=domain_id)
    finally:
        os.environ[_SECURED] = "true"


def _discover(found: list[_Arm], client: Client, domain_id: int, namespace: str, service: str) -> bool:
    """Adds the arms of a domain that were not found before; whether there were any."""
    before = len(found)
    for name, _ in client.node.get_service_names_and_types():
        if not name.endswith(service):
            continue
        where = name.removesuffix(service)
        known = any((arm.domain_id, arm.namespace) == (domain_id, where) for arm in found)
        if not known and _is_meant(where, namespace):
            found.append(_Arm(domain_id, where))
    return len(found) > before


def _call(arm: _Arm, client: Client | None, service: str, service_type: type, request: Any, waited: float) -> None:
    whose = bool(arm.processes) or arm.owner_is_known or waited >= _DISCOVERY
    if client is None or arm.future is not None or arm.foreign or not whose:
        return
    if arm.client is None:
        arm.client = client.node.create_client(service_type, f"{arm.namespace}{service}")
    if arm.client.service_is_ready():
        arm.future = arm.client.call_async(request)


def _find_owner(arm: _Arm, client: Client) -> None:
    """Says of an arm that no known process stands for whether another user of this machine runs it."""
    name = client.node.get_name()
    events = client.node.get_publishers_info_by_topic("/parameter_events")
    own = [bytes(each.endpoint_gid) for each in events if each.node_name == name]
    endpoints = client.node.get_publishers_info_by_topic(f"{arm.namespace}/arm/safety")
    if own and endpoints:
        owners = [arms.is_own_participant(bytes(each.endpoint_gid), own[0]) for each in endpoints]
        arm.owner_is_known, arm.foreign = True, all(owner is False for owner in owners)


def _why_not(arm: _Arm) -> str:
    """Why an arm did not do what it was asked, empty when it did."""
    if pid := arm.stopped_process:
        return f"process {pid} is suspended by a signal; it obeys once it goes on (kill -CONT {pid})"
    if len(arm.processes) > 1 and not (arm.halted and all(arm.halted)):
        return "several processes are this arm, and one answer does not tell whether all obeyed"
    if arm.answer is not None:
        return "" if arm.answer.success else arm.answer.message or "refused without a reason"
    if arm.processes and not any(process.state() for process in arm.processes):
        return "its process has ended"
    if arm.halted and all(arm.halted):
        return (
            "its process took the signal to stop, and gave no answer in time; a secured one answers to --secure alone"
        )
    return "no answer in time"


def _nothing_found(graph: str, namespace: str, domains: Sequence[int]) -> str:
    where = f" in namespace {namespace}" if namespace else ""
    which = f" of graph {graph}" if graph else ""
    numbers = ", ".join(map(str, domains))
    return f"found no arm{which}{where}: no arm_controller of this user, no */arm/estop in domain {numbers}"
