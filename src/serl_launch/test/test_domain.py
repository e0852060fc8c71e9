# SPDX-License-Identifier: Apache-2.0
"""Two graphs on a machine get two domains, and others find them."""

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from serl_launch.errors import CommandError

from serl_launch import domain

IDS = range(220, 224)  # nobody else's


@pytest.fixture(autouse=True)
def _own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv(domain.VARIABLE, raising=False)


def test_two_claims_get_different_ids_and_set_the_environment() -> None:
    with domain.claim("a", candidates=IDS) as first:
        assert os.environ[domain.VARIABLE] == str(first.id)
        os.environ.pop(domain.VARIABLE)  # as another terminal would see it
        with domain.claim("b", candidates=IDS) as second:
            assert first.id != second.id
    assert domain.VARIABLE not in os.environ


def test_a_released_id_is_free_again() -> None:
    with domain.claim("a", candidates=IDS) as first:
        pass
    with domain.claim("b", candidates=IDS) as second:
        assert second.id == first.id


def test_the_persons_own_choice_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(domain.VARIABLE, "7")
    with domain.claim("a", candidates=IDS) as claimed:
        assert claimed.id == 7
    assert os.environ[domain.VARIABLE] == "7"


@pytest.mark.parametrize("text", ["x", "-1", "233", "1.5"])
def test_a_wrong_domain_id_is_named(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(domain.VARIABLE, text)
    with pytest.raises(CommandError, match=f"ROS_DOMAIN_ID.*{text!r}"):
        domain.claim("a", candidates=IDS)


def test_a_domain_in_which_somebody_listens_is_left_out() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 7410 + 250 * IDS[0]))
        with domain.claim("a", candidates=IDS) as claimed:
            assert claimed.id == IDS[1]


def test_no_free_domain_is_an_error() -> None:
    with domain.claim("a", candidates=[IDS[0]]):
        os.environ.pop(domain.VARIABLE)
        with pytest.raises(CommandError, match="no free ROS domain"):
            domain.claim("b", candidates=[IDS[0]])


def test_a_running_graph_is_found_by_others_and_gone_when_it_ends() -> None:
    with domain.claim("mine", "runs/mine", candidates=IDS) as claimed:
        (found,) = domain.running_graphs()
        assert (found.name, found.domain_id, found.run_dir) == ("mine", claimed.id, "runs/mine")
        assert found.pid == os.getpid()
    assert domain.running_graphs() == []


def test_the_graph_of_a_killed_process_does_not_count(tmp_path: Path) -> None:
    code = (
        "import tempfile, time; from serl_launch import domain\n"
        f"tempfile.tempdir = {str(tmp_path)!r}\n"
        f"claimed = domain.claim('other', candidates={list(IDS)}); print('up', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert [graph.name for graph in domain.running_graphs()] == ["other"]
        process.kill()
    assert domain.running_graphs() == []


def test_the_only_graph_is_joined_without_being_named() -> None:
    with domain.claim("mine", candidates=IDS) as claimed:
        os.environ.pop(domain.VARIABLE)
        joined = domain.join()
        assert joined is not None
        assert joined.domain_id == claimed.id
        assert os.environ[domain.VARIABLE] == str(claimed.id)


def test_several_graphs_need_a_name() -> None:
    with domain.claim("first", candidates=IDS):
        os.environ.pop(domain.VARIABLE)
        with domain.claim("second", candidates=IDS) as second:
            os.environ.pop(domain.VARIABLE)
            with pytest.raises(CommandError, match=r"several graphs run.*first.*second"):
                domain.join()
            assert domain.join("second").domain_id == second.id  # type: ignore[union-attr]


def test_an_unknown_graph_is_named() -> None:
    with pytest.raises(CommandError, match="no graph 'x' runs"):
        domain.join("x")


def test_without_any_graph_the_default_domain_is_looked_at() -> None:
    assert domain.join() is None
    assert domain.VARIABLE not in os.environ


def test_a_domain_of_the_environment_that_a_graph_of_ours_has_is_refused() -> None:
    # What is claimed is in the environment, as if exported.
    with (
        domain.claim("mine", candidates=IDS[:1]),
        pytest.raises(CommandError, match=rf"{IDS[0]}: the graph 'mine' \(process {os.getpid()}\) runs"),
    ):
        domain.claim("another")


@pytest.mark.parametrize("rubbish", ["pipe", "link", "folder", "text", "list", "types", "deep", "large", "unreadable"])
def test_rubbish_in_the_place_of_a_lock_is_passed_over(tmp_path: Path, rubbish: str) -> None:
    path, target = tmp_path / f"serl_domain_{IDS[0]}.lock", tmp_path / "precious"
    target.write_text("precious")
    contents = {
        "text": "rubbish \x00",
        "list": "[]",
        "types": '{"domain_id": "x", "name": 3}',
        "deep": "[" * 60000,
        "large": "7" * 10**6,
        "unreadable": "{}",
    }
    if rubbish == "pipe":
        os.mkfifo(path)
    elif rubbish == "link":
        path.symlink_to(target)
    elif rubbish == "folder":
        path.mkdir()
    else:
        path.write_text(contents[rubbish])
        path.chmod(0 if rubbish == "unreadable" else 0o600)
    holder = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, 2); print('up', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", holder, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        if path.is_file():
            assert process.stdout is not None
            process.stdout.readline()
        try:
            assert domain.running_graphs() == []
            with domain.claim("mine", candidates=IDS) as claimed:
                assert claimed.id == IDS[1]
        finally:
            process.kill()
    assert target.read_text() == "precious"


def test_without_a_temporary_folder_there_are_no_graphs_to_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    assert domain.running_graphs() == []
    with pytest.raises(CommandError, match="TMPDIR"):
        domain.claim("mine", candidates=IDS)
