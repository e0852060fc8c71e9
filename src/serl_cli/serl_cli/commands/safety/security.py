# SPDX-License-Identifier: Apache-2.0
"""``serl security``: the keys of a run on two machines."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from serl_config.text import printable
from serl_launch.errors import UsageError

from serl_cli.commands.options import GraphOption

if TYPE_CHECKING:
    from serl_security.keystore import Keystore

security = typer.Typer(rich_markup_mode="rich", no_args_is_help=True)


@security.callback()
def security_overview() -> None:
    """Keys with which the two machines of a run know each other, and who may do what in a graph.

    Examples:
        ./serl security init keys --learner learner.example
        ./serl security check keys
        ./serl security audit
    """


@security.command("init")
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty folder for the keys.")] = Path("keys"),
    learner: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST",
            help="Name or address at which the robot's machine reaches the learner's; may be given several times. "
            "Default: this machine's name.",
        ),
    ] = None,
    days: Annotated[int, typer.Option(help="Days for which the keys hold, at most 3650.")] = 365,
    sros: Annotated[
        bool, typer.Option("--sros", help="Make a keystore of SROS 2 instead, for nodes of a native ROS 2.")
    ] = False,
    domain: Annotated[
        list[int] | None,
        typer.Option(
            metavar="ID",
            help="With --sros, ROS domain of the run; may be given several times. Default: ROS_DOMAIN_ID, or 0.",
        ),
    ] = None,
    namespace: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="With --sros, namespace of a graph, or what topics of a pair of tasks begin with, beside none; may be "
            "given several times.",
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --sros, who may do what. Default: config/security/policy.xml."),
    ] = None,
    renew: Annotated[
        Path | None,
        typer.Option(
            metavar="OLD",
            help="With --sros, keystore whose authorities, domains and namespaces the new one takes over.",
        ),
    ] = None,
) -> None:
    """Make the keys of a run: an authority of its own, and one key and certificate for each machine.

    DIR/robot goes to the robot's machine and DIR/learner to the learner's, each by a way that you trust and nowhere
    else: whoever holds one of them is that side. DIR/authority.key stays here: who has it can make keys that these
    machines let in. No file is written over.

    With --sros it is a keystore of SROS 2: a certificate and signed permissions for each kind of node.

    Examples:
        ./serl security init keys --learner learner.example --learner 192.168.1.20
        ./serl security init keystore --sros --domain 30 --namespace arm_0 --namespace arm_1
    """
    if sros:
        if learner:
            raise UsageError("--learner and --sros: a link has a learner's side, a keystore has not; leave out one")
        _make_keystore(folder, domain, namespace, policy, renew, days)
        return
    if domain or namespace or policy or renew:
        raise UsageError("--domain, --namespace, --policy and --renew are of a keystore: expected --sros with them")
    from serl_link.keys import make_keys

    names = learner or [socket.gethostname()]
    robot, served = make_keys(folder, names, days=days)
    at = printable(names[0])
    typer.echo(f"{printable(robot)}: for the robot's machine, with link:={at}:7447 link_keys:=ITS_FOLDER side:=robot")
    typer.echo(
        f"{printable(served)}: for the learner's, the same with side:=learner; it is known as {', '.join(names)}"
    )
    typer.echo(
        f"{printable(folder / 'authority.key')}: stays here; who has it can make keys that these machines let in"
    )


def _make_keystore(
    folder: Path,
    domains: list[int] | None,
    namespaces: list[str] | None,
    policy: Path | None,
    renew: Path | None,
    days: int,
) -> None:
    from serl_launch.domain import environment_domain
    from serl_security.keystore import make_keystore, open_keystore
    from serl_security.permissions import Reach
    from serl_security.policy import load_policy

    old = open_keystore(renew) if renew is not None else None
    if old is not None:
        domains, namespaces = domains or list(old.reach.domains), namespaces or list(old.reach.namespaces)
    names = dict.fromkeys(["", *(name.strip("/") for name in namespaces or [])])
    reach = Reach(tuple(dict.fromkeys(domains or [environment_domain() or 0])), tuple(names))
    if old is not None and old.policy is not None and policy is None:
        raise UsageError(
            f"{renew}: was made of a policy of its own; --policy FILE says which one the new one is made of"
        )
    made = make_keystore(folder, load_policy(policy), reach, days=days, authorities=old, own_policy=policy is not None)
    here = printable(folder)
    where = ", ".join(f"/{name}" for name in names)
    typer.echo(
        f"{here}: {len(made.enclaves)} enclaves in ROS domain {', '.join(map(str, reach.domains))}, "
        f"namespaces {where}, for {days} days"
    )
    typer.echo(f"{here}/private: makes more certificates and permissions; it goes to no other machine")


@security.command("check")
def check(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of a run's keys, that of one machine, or a keystore.")
    ] = Path("keys"),
    policy: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Who may do what. Default: what the keystore was made of, or config/security/policy.xml.",
        ),
    ] = None,
) -> None:
    """Say whose keys these are, until when they hold, and with whom they let talk.

    The exit status is 1 if they cannot be used.

    Examples:
        ./serl security check keys
        ./serl security check keys/robot
        ./serl security check keystore
        ./serl security check keystore --policy policy.xml
    """
    from serl_link.keys import CERTIFICATE, SIDES, inspect_keys
    from serl_security.certificates import KeysError, library
    from serl_security.keystore import is_keystore

    library()  # who lacks it is told once
    if is_keystore(folder):
        _check_keystore(folder, policy)
        return
    if policy is not None:
        raise UsageError(f"--policy is of a keystore: expected one in {folder}, found none")
    folders = [folder / side for side in SIDES]
    if (folder / CERTIFICATE).exists() or not any(each.exists() for each in folders):
        folders = [folder]  # of one machine, or none at all
    wrong = 0
    for each in folders:
        try:
            keys = inspect_keys(each)
        except KeysError as error:
            wrong += 1
            typer.echo(printable(error))
            continue
        days = round((keys.ends - datetime.now(UTC)) / timedelta(days=1))
        does = f"serves as {', '.join(keys.names)}" if keys.side == "learner" else "connects"
        other = "a robot" if keys.side == "learner" else "a learner"
        typer.echo(
            f"{printable(each)}: the {keys.side}'s side, {does}; until {keys.ends:%Y-%m-%d} ({days} days); talks with "
            f"{other} whose keys are of the authority {printable(keys.issuer)} ({keys.authority}), and with nobody else"
        )
    if wrong:
        raise typer.Exit(1)


def _check_keystore(folder: Path, policy: Path | None) -> None:
    from serl_security.keystore import open_keystore
    from serl_security.keystore_check import ends, problems
    from serl_security.policy import load_policy

    keystore = open_keystore(folder)
    enclaves = keystore.policy if policy is None else None
    wrong = list(problems(keystore, enclaves or load_policy(policy)))
    for line in wrong:
        typer.echo(printable(line))
    if wrong:
        raise typer.Exit(1)
    domains = ", ".join(map(str, keystore.reach.domains))
    typer.echo(
        f"{printable(folder)}: a keystore of SROS 2, {len(keystore.enclaves)} enclaves in ROS domain {domains}; "
        f"until {ends(keystore):%Y-%m-%d}"
    )


@security.command("audit")
def audit(
    policy: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Who may do what. Default: the policy of the keystore behind --secure, or config/security/policy.xml.",
        ),
    ] = None,
    namespace: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Namespace of a graph, or what topics of a pair begin with, beside none; may be given several times. "
            "Default: those of the keystore behind --secure.",
        ),
    ] = None,
    graph: GraphOption = "",
) -> None:
    """Say what the nodes of a running graph do that the policy does not allow, and what takes part without a node.

    The exit status is 1 if there is something. Where ROS 2 is not secured, a node is whoever it says that it is, and
    nothing that is found here is hindered. Where it is secured, what is not allowed does not come to be; a node of
    another name than its enclave's does.

    Examples:
        ./serl security audit
        ./serl security audit --namespace arm_0 --namespace arm_1
        ./serl security audit --secure=keystore
    """
    from serl_launch.clients import audit_node
    from serl_security.policy import load_policy

    keystore = _keystore_in_force()
    names = namespace or (list(keystore.reach.namespaces) if keystore is not None else [])
    enclaves = keystore.policy if keystore is not None and policy is None else None
    places = dict.fromkeys(["/", *(f"/{name.strip('/')}" for name in names)])
    if not audit_node.audit(graph, enclaves or load_policy(policy), tuple(places)):
        raise typer.Exit(1)


def _keystore_in_force() -> Keystore | None:
    """The keystore by which this command is secured, where it is one of ours."""
    from serl_security.certificates import KeysError
    from serl_security.keystore import open_keystore

    if os.environ.get("ROS_SECURITY_ENABLE") != "true":
        return None
    try:
        return open_keystore(Path(os.environ.get("ROS_SECURITY_KEYSTORE", "")))
    except KeysError:
        return None
