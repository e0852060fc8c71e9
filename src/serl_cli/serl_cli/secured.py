# SPDX-License-Identifier: Apache-2.0
"""``./serl COMMAND --secure KEYSTORE``: nodes take their enclaves of a keystore of SROS 2, or do not start."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from serl_launch.errors import CommandError, UsageError

OPTION = "--secure"
_WITHOUT = (["security", "init"], ["security", "check"], ["completion"])  # commands that take no part in a graph
_STOPS = ("estop", "reset-estop")  # which are never refused
_ENABLE = "ROS_SECURITY_ENABLE"


def take_secure(arguments: Sequence[str], say: Callable[[str], None]) -> list[str]:
    """Take `--secure KEYSTORE` out of a command line, and set this process and its children up for it.

    The ROS domain is that of the keystore, its first one where ROS_DOMAIN_ID is not set.

    Args:
        arguments: of the command line.
        say: told, in a line, why an e-stop is tried without security, or by a keystore that is refused.

    Returns:
        The arguments without the option.

    Raises:
        UsageError: there is no folder behind the option, and it is no e-stop.
        CommandError: the DDS of this machine cannot be secured, whether by the option or by ROS_SECURITY_ENABLE, or
            the keystore does not fit, or `./serl setup link` has not been called.
    """
    kept, folder = _split(arguments)
    wanted = folder is not None or os.environ.get(_ENABLE) == "true"
    without = not kept or kept[:1] in _WITHOUT or kept[:2] in _WITHOUT or {"--help", "-h", "--version"} & {*kept}
    if not wanted or (without and folder != ""):
        return kept
    try:
        _secure(folder)
    except Exception as error:  # a stop goes on, whatever it is
        if kept[:1] not in ([each] for each in _STOPS):
            raise
        say(f"{error}; trying {'all the same' if _can_go_on(folder) else 'without'}")
    return kept


def _can_go_on(folder: str | None) -> bool:
    """Whether an e-stop has keys nevertheless: a graph that runs may go by a keystore that is refused today."""
    try:
        _secure(None)
    except Exception:  # noqa: BLE001 - it was told
        os.environ[_ENABLE] = "false"  # else ROS 2 would let this process take no part at all, as the variables may say
        return False
    try:
        from serl_security.secure import usable_environment

        os.environ.update(usable_environment(Path(folder), os.environ.get("ROS_DOMAIN_ID", "")) if folder else {})
    except Exception:  # noqa: BLE001 - it was told
        return False
    return os.environ.get(_ENABLE) == "true"


def _secure(folder: str | None) -> None:
    from serl_security.plugins import missing_plugins

    if folder == "":
        raise UsageError(f"{OPTION}: expected the folder of a keystore behind it, as in {OPTION} keystore")
    source = f"{OPTION} {folder}" if folder is not None else f"{_ENABLE}=true"
    try:
        missing = missing_plugins()
    except OSError as error:
        raise CommandError(f"{source}: whether DDS can be secured is not known: {error}") from error
    if missing is not None:
        raise CommandError(f"{source}: {missing}")
    if folder is not None:
        os.environ.update(_environment(Path(folder)))


def _split(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """The arguments without the option, and the last folder behind it: empty where none is, None without the option."""
    words, kept = list(arguments), list[str]()
    end = words.index("--") if "--" in words else len(words)
    folder, at = None, 0
    while at < end:
        word, after = words[at], words[at + 1 : end]
        at += 1
        if word.startswith(f"{OPTION}="):
            folder = word.partition("=")[2]
        elif word != OPTION:
            kept.append(word)
        elif not after or after[0].startswith("-") or (not kept and _is_a_stop(after)):
            folder = ""
        else:
            folder = after[0]
            at += 1
    return kept + words[end:], folder


def _is_a_stop(words: Sequence[str]) -> bool:
    """Whether a command begins here, behind an option whose folder was forgotten, and no folder that is called so."""
    return words[0] in _STOPS and (words[1:2] == [] or words[1].startswith("-") or not Path(words[0]).is_dir())


def _environment(folder: Path) -> dict[str, str]:
    from serl_security.certificates import KeysError
    from serl_security.keystore import open_keystore
    from serl_security.policy import PolicyError, load_policy
    from serl_security.secure import secure_environment

    try:
        text = os.environ.get("ROS_DOMAIN_ID") or str(open_keystore(folder).reach.domains[0])
        if not text.isdecimal():
            raise CommandError(f"ROS_DOMAIN_ID: expected a number, found {text[:20]!r}")
        variables = secure_environment(folder, int(text), load_policy(), ["/operator"])
    except (KeysError, PolicyError) as error:
        raise CommandError(f"{OPTION}: {error}") from error
    return {**variables, "ROS_DOMAIN_ID": text}
