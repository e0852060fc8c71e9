# SPDX-License-Identifier: Apache-2.0
"""A Zenoh session between the two sides: mutual TLS at one TCP port, no discovery, no other peers."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

from serl_config.optional import optional_module

from serl_link.carried import MOST_BYTES, LinkError
from serl_link.keys import Keys

LEASE = 4.0
"""Seconds of silence after which a connection counts as lost, and a new one is tried."""

LOG = "zenoh_link_tls=warn,error"
"""What of Zenoh's log is written."""


def library() -> Any:
    """Zenoh's Python module.

    Raises:
        LinkError: it is not installed.
    """
    return optional_module("zenoh", extra="link", needed_by="the link with keys", error=LinkError)


def open_session(keys: Keys, host: str, port: int) -> Any:
    """Listen where `keys` are the learner's, else connect, and connect again whenever the connection is lost.

    Args:
        keys: of this side.
        host: name or address of the learner's machine. The learner's side listens at an address, and where this is a
            name at all of its IPv4 addresses.
        port: TCP port.

    Raises:
        LinkError: Zenoh takes no such settings, or the port cannot be had; says why.
    """
    zenoh = library()
    zenoh.init_log_from_env_or(LOG)
    config = zenoh.Config()
    for key, value in settings(keys, host, port).items():
        try:
            config.insert_json5(key, json.dumps(value))
        except zenoh.ZError as error:
            raise LinkError(f"link: Zenoh does not take {key}: {error}") from error
    try:
        return zenoh.open(config)
    except zenoh.ZError as error:
        raise LinkError(f"link: {host}:{port}: {str(error).partition(' at /')[0]}") from error


def settings(keys: Keys, host: str, port: int) -> dict[str, Any]:
    """What Zenoh is told, by the names of its configuration.

    Args:
        keys: of this side.
        host: name or address of the learner's machine.
        port: TCP port.
    """
    listens = keys.side == "learner"
    part = "listen" if listens else "connect"
    tls = {
        "root_ca_certificate": str(keys.authority_file),
        "enable_mtls": True,
        "verify_name_on_connect": True,
        "close_link_on_expiration": True,
        f"{part}_private_key": str(keys.key_file),
        f"{part}_certificate": str(keys.certificate_file),
    }
    at = f"tls/{_bracketed(listening_address(host) if listens else host)}:{port}"
    return {
        "mode": "peer",
        "scouting/multicast/enabled": False,
        "scouting/gossip/enabled": False,
        "listen/endpoints": [at] if listens else [],
        "connect/endpoints": [] if listens else [at],
        "connect/timeout_ms": -1,
        "connect/exit_on_failure": False,
        "connect/retry": {"period_init_ms": 500, "period_max_ms": 2000, "period_increase_factor": 2},
        "transport/link/tx/lease": int(1000 * LEASE),
        "transport/link/rx/max_message_size": MOST_BYTES,
        "transport/link/protocols": ["tls"],
        "transport/link/tls": tls,
    }


def listening_address(host: str) -> str:
    """Where the learner's side listens: at an address, and where `host` is a name at all IPv4 addresses."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return "0.0.0.0"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
