# SPDX-License-Identifier: Apache-2.0
"""`--secure KEYSTORE`: refused by name where DDS cannot be secured, and else set up for the command and its nodes."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from serl_cli.app import main
from serl_cli.secured import take_secure
from serl_config.optional import is_installed
from serl_launch.errors import CommandError, UsageError


def never(text: str) -> None:
    pytest.fail(text)


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Fast DDS that can be secured."""
    monkeypatch.setattr("serl_security.plugins.missing_plugins", lambda: None)


@pytest.fixture(autouse=True)
def _no_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ROS_DOMAIN_ID", "ROS_SECURITY_ENABLE"):
        monkeypatch.delenv(name, raising=False)


def without_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serl_security.plugins.missing_plugins", lambda: "libfastrtps.so: none")


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        (["nodes", "--secure", "keys"], "", "--secure keys: libfastrtps.so: none"),
        (["--secure=keys", "nodes"], "", "--secure keys: libfastrtps.so: none"),
        (["nodes"], "true", "ROS_SECURITY_ENABLE=true: libfastrtps.so: none"),
        (["security", "audit", "--secure=keys"], "", "--secure keys: libfastrtps.so: none"),
        (["--secure=", "nodes"], "", "--secure: expected the folder of a keystore behind it"),
        (["nodes", "--secure"], "", "--secure: expected the folder of a keystore behind it"),
        (["nodes", "--secure", "--json"], "", "--secure: expected the folder of a keystore behind it"),
    ],
)
def test_what_cannot_be_secured_is_one_line_before_anything_starts(
    arguments: list[str],
    environment: str,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    without_plugins(monkeypatch)
    if environment:
        monkeypatch.setenv("ROS_SECURITY_ENABLE", environment)
    assert main(arguments) != 0
    assert capsys.readouterr().err.startswith(f"serl: error: {expected}")
    assert "ROS_SECURITY_KEYSTORE" not in os.environ


def test_commands_without_a_graph_do_not_care(monkeypatch: pytest.MonkeyPatch) -> None:
    without_plugins(monkeypatch)
    monkeypatch.setenv("ROS_SECURITY_ENABLE", "true")
    for arguments in (["train", "--help"], ["security", "check", "keys"], ["security", "init"], ["--version"], []):
        assert take_secure(arguments, never) == arguments
    monkeypatch.setenv("ROS_SECURITY_ENABLE", "false")
    assert take_secure(["train"], never) == ["train"]


@pytest.mark.parametrize("command", ["estop", "reset-estop"])
def test_who_stops_an_arm_is_never_refused(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without_plugins(monkeypatch)
    said: list[str] = []
    assert take_secure([command, "--secure", "keys", "--all"], said.append) == [command, "--all"]
    assert said == ["--secure keys: libfastrtps.so: none; trying without"]
    for words, kept in (
        ([command, "--secure"], [command]),
        (["--secure", command], [command]),
        (["--secure=", command], [command]),
        (["--secure", "", command], [command]),
        ([command, "--secure", "", "--all"], [command, "--all"]),
        (["--secure=keys", command, "--secure"], [command]),
        ([command, "--secure", "--"], [command, "--"]),
    ):
        said.clear()
        assert take_secure(words, said.append) == kept
        assert said == [
            "--secure: expected the folder of a keystore behind it, as in --secure keystore; trying without"
        ]


def test_a_stop_is_one_beside_a_folder_of_its_name(
    plugins: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "estop").mkdir()
    said: list[str] = []
    for words in (["--secure", "estop"], ["--secure", "estop", "--graph", "a"], ["--secure", "estop", "estop"]):
        assert take_secure(words, said.append)[0] == "estop"
    assert ["expected the folder" in line for line in said] == [True, True, False]


def test_a_stop_goes_on_whatever_is_wrong_and_takes_part(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise PermissionError("nobody may look")

    monkeypatch.setenv("ROS_SECURITY_ENABLE", "true")
    monkeypatch.setenv("ROS_SECURITY_STRATEGY", "Enforce")
    monkeypatch.setattr("serl_security.plugins.missing_plugins", lambda: None)
    monkeypatch.setattr("serl_cli.secured._environment", fails)
    said: list[str] = []
    assert take_secure(["estop", "--secure=keys"], said.append) == ["estop"]
    assert said == ["nobody may look; trying without"]
    assert os.environ["ROS_SECURITY_ENABLE"] == "true", "the variables are of another keystore, that may do"
    with pytest.raises(PermissionError):
        take_secure(["nodes", "--secure=keys"], said.append)
    without_plugins(monkeypatch)
    assert take_secure(["estop"], said.append) == ["estop"]
    assert os.environ["ROS_SECURITY_ENABLE"] == "false", "with Enforce ROS 2 would let nothing take part"


@pytest.mark.skipif(not is_installed("cryptography"), reason="./serl setup link")
@pytest.mark.parametrize(("domain", "taken"), [("", "30"), ("31", "31"), ("5", "30")])
def test_a_stop_goes_by_a_keystore_that_is_refused_today(
    domain: str, taken: str, plugins: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one of an older policy, by which a graph that runs was started."""
    from serl_security.keystore import make_keystore
    from serl_security.permissions import Reach
    from serl_security.policy import load_policy

    older = [replace(each, publish=()) for each in load_policy() if each.path == "/operator"]
    folder = make_keystore(tmp_path / "keys", older, Reach((30, 31)), days=30).folder
    if domain:
        monkeypatch.setenv("ROS_DOMAIN_ID", domain)
    with pytest.raises(
        CommandError, match="differs from the policy" if domain != "5" else "expected a keystore of ROS domain 5"
    ):
        take_secure(["nodes", f"--secure={folder}"], never)
    said: list[str] = []
    assert take_secure(["estop", f"--secure={folder}"], said.append) == ["estop"]
    assert len(said) == 1
    assert said[0].endswith("; trying all the same")
    names = ("ROS_SECURITY_KEYSTORE", "ROS_SECURITY_ENABLE", "ROS_SECURITY_STRATEGY", "ROS_DOMAIN_ID")
    assert [os.environ[name] for name in names] == [str(folder), "true", "Enforce", taken]


def test_words_behind_two_dashes_are_not_ours(plugins: None) -> None:
    words = ["launch", "--", "--secure", "keys"]
    assert take_secure(words, never) == words
    with pytest.raises(UsageError, match="expected the folder"):
        take_secure(["launch", "--secure", "--", "keys"], never)


def test_a_folder_that_is_no_keystore_is_refused(plugins: None, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"--secure: .*expected a keystore"):
        take_secure(["nodes", "--secure", str(tmp_path)], never)


@pytest.mark.skipif(not is_installed("cryptography"), reason="./serl setup link")
def test_a_command_and_its_nodes_take_the_keystore(
    plugins: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from serl_security.keystore import make_keystore
    from serl_security.permissions import Reach
    from serl_security.policy import load_policy

    folder = make_keystore(tmp_path / "keys", load_policy(), Reach((30, 31)), days=30).folder
    assert take_secure(["train", "--secure", str(folder), "--seed", "1"], never) == ["train", "--seed", "1"]
    assert os.environ["ROS_SECURITY_KEYSTORE"] == str(folder)
    assert os.environ["ROS_SECURITY_ENABLE"] == "true"
    assert os.environ["ROS_SECURITY_STRATEGY"] == "Enforce"
    assert os.environ["ROS_DOMAIN_ID"] == "30"
    for domain, expected in (("32", "ROS domain 32, found one of 30, 31"), ("x", "expected a number, found 'x'")):
        monkeypatch.setenv("ROS_DOMAIN_ID", domain)
        with pytest.raises(CommandError, match=expected):
            take_secure(["train", "--secure", str(folder)], never)
