# SPDX-License-Identifier: Apache-2.0
"""What tells the nodes of a graph to be secured by a keystore of SROS 2."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from serl_security.certificates import KeysError
from serl_security.keystore import open_keystore
from serl_security.keystore_check import problems
from serl_security.policy import Enclave


def secure_environment(folder: Path, domain: int, enclaves: Sequence[Enclave], needed: Iterable[str]) -> dict[str, str]:
    """Variables by which nodes of a graph take a keystore, and do not start without it.

    Which enclave a node has is not among them: a variable for that goes to all children, and beats `--enclave`.

    Args:
        folder: of the keystore.
        domain: ROS domain of the graph.
        enclaves: of the policy, where the keystore was not made of another one.
        needed: paths of the enclaves of what is started here, such as `/actor`.

    Raises:
        KeysError: it is no keystore of ours, is of other domains, lacks a needed enclave, or something in it is wrong.
    """
    keystore = open_keystore(folder)
    if domain not in keystore.reach.domains:
        domains = ", ".join(str(each) for each in keystore.reach.domains)
        raise KeysError(f"{folder}: expected a keystore of ROS domain {domain}, found one of {domains}")
    missing = sorted({*needed} - {*keystore.enclaves})
    if missing:
        raise KeysError(f"{folder}: expected enclaves {', '.join(missing)}, which are started here, found none")
    wrong = next(problems(keystore, keystore.policy or enclaves), None)
    if wrong is not None:
        raise KeysError(f"{wrong} (./serl security check {folder} says all)")
    return _variables(folder)


def usable_environment(folder: Path, domain: str) -> dict[str, str]:
    """Variables for an e-stop by a keystore of which nothing is checked: what DDS takes of it is used.

    Args:
        folder: of the keystore.
        domain: ROS domain that is asked for, as text; where the keystore is of others, its first one is taken.

    Raises:
        KeysError: it is no keystore of ours, or has no enclave /operator.
        OSError: it cannot be looked into.
    """
    keystore = open_keystore(folder)
    if "/operator" not in keystore.enclaves:
        raise KeysError(f"{folder}: expected the enclave /operator, found none")
    domains = [str(each) for each in keystore.reach.domains]
    return {**_variables(folder), "ROS_DOMAIN_ID": domain if domain in domains else domains[0]}


def _variables(folder: Path) -> dict[str, str]:
    return {
        "ROS_SECURITY_KEYSTORE": str(folder.absolute()),
        "ROS_SECURITY_ENABLE": "true",
        "ROS_SECURITY_STRATEGY": "Enforce",
    }
