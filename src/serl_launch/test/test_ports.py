# SPDX-License-Identifier: Apache-2.0
"""What the node for scripts of SERL needs is looked at before a graph starts: its packages, and its ports."""

import os
import socket

import pytest
from serl_launch.errors import UsageError
from serl_launch.needs import refuse_missing
from serl_launch.ports import refuse_taken

GIVEN = {"agentlace": "true", "agentlace_host": "127.0.0.1"}


def test_agentlace_without_its_packages_is_refused_with_what_brings_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serl_config.optional.is_installed", lambda name: name != "lz4")
    with pytest.raises(UsageError, match=r"agentlace:=true needs lz4, not installed: \./serl setup agentlace") as found:
        refuse_missing({"agentlace": "true"})
    assert "\n" not in str(found.value)
    refuse_missing({"agentlace": "false"})


@pytest.mark.parametrize("taken", ["agentlace_port", "agentlace_broadcast_port"])
def test_a_taken_port_is_refused_by_its_argument_and_the_process_that_has_it(taken: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder, socket.create_server(("127.0.0.1", 0)) as other:
        names = ("agentlace_port", "agentlace_broadcast_port")
        ports = dict.fromkeys(names, str(other.getsockname()[1])) | {taken: str(holder.getsockname()[1])}
        other.close()
        with pytest.raises(UsageError) as found:
            refuse_taken(GIVEN | ports)
        said = str(found.value)
        assert f"port {ports[taken]}: process {os.getpid()} (" in said
        assert f"give another {taken}:=" in said
        assert "\n" not in said
        refuse_taken(GIVEN | ports | {"agentlace": "false"})


@pytest.mark.parametrize("wrong", ["0", "65536", "-1", "here"])
def test_what_is_no_port_is_refused(wrong: str) -> None:
    with pytest.raises(UsageError, match=r"agentlace_port:=.*expected a TCP port"):
        refuse_taken(GIVEN | {"agentlace_port": wrong, "agentlace_broadcast_port": "5489"})


def test_a_trainer_that_is_no_address_is_refused() -> None:
    pytest.importorskip("zmq", reason="./serl setup agentlace")
    with pytest.raises(UsageError, match=r"trainer:=host: expected agentlace://HOST:PORT"):
        refuse_missing({"trainer": "host"})
