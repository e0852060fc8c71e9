# SPDX-License-Identifier: Apache-2.0
"""``serl security``: the keys of a run on two machines."""

import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from serl_config.text import printable
from serl_launch.errors import UsageError

security = typer.Typer(rich_markup_mode="rich", no_args_is_help=True)


@security.callback()
def security_overview() -> None:
    """Keys with which the two machines of a run know each other.

    Examples:
        ./serl security init keys --learner learner.example
        ./serl security check keys
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
    made = make_keystore(folder, load_policy(policy), reach, days=days, authorities=old)
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
) -> None:
    """Say whose keys these are, until when they hold, and with whom they let talk.

    The exit status is 1 if they cannot be used.

    Examples:
        ./serl security check keys
        ./serl security check keys/robot
        ./serl security check keystore
    """
    from serl_link.keys import CERTIFICATE, SIDES, inspect_keys
    from serl_security.certificates import KeysError, library
    from serl_security.keystore import is_keystore

    library()  # who lacks it is told once
    if is_keystore(folder):
        _check_keystore(folder)
        return
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


def _check_keystore(folder: Path) -> None:
    from serl_security.keystore import open_keystore
    from serl_security.keystore_check import ends, problems
    from serl_security.policy import load_policy

    keystore = open_keystore(folder)
    wrong = list(problems(keystore, load_policy()))
    for line in wrong:
        typer.echo(printable(line))
    if wrong:
        raise typer.Exit(1)
    domains = ", ".join(map(str, keystore.reach.domains))
    typer.echo(
        f"{printable(folder)}: a keystore of SROS 2, {len(keystore.enclaves)} enclaves in ROS domain {domains}; "
        f"until {ends(keystore):%Y-%m-%d}"
    )
