# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from pathlib import Path

import pytest
from serl_launch.language.arguments import parse_arguments, show_args
from serl_launch.language.errors import LaunchError

WriteLaunch = Callable[..., Path]


def test_show_args_looks_like_upstream(write_launch: WriteLaunch) -> None:
    write_launch('<arg name="inner" default="2"/><arg name="task" default="twice"/>', "inner.launch.xml")
    file = write_launch(
        r"""
        <arg name="task" default="pick" description="what to \do"><choice value="pick"/><choice value="place"/></arg>
        <arg name="mode"><choice value="a"/></arg>
        <arg name="plain"/>
        <group if="$(var plain)"><arg name="sometimes" default="$(var task)"/></group>
        <include file="$(dirname)/inner.launch.xml"/>
        <include file="$(var plain)/unknown.launch.xml"/>"""
    )
    assert show_args(file, {}) == (
        """Arguments (pass arguments as '<name>:=<value>'):

    'task':
        what to do. Valid choices are: ['pick', 'place']
        (default: 'pick')

    'mode':
        One of: ['a']

    'plain':
        no description given

    'sometimes':*
        no description given
        (default: '$(var task)')

    'inner':
        no description given
        (default: '2')

* argument(s) which are only used if specific conditions occur"""
    )


def test_show_args_of_a_file_without_arguments(write_launch: WriteLaunch) -> None:
    assert show_args(write_launch(""), {}).endswith("\n\n  No arguments.")


def test_show_args_ends_for_a_file_that_includes_itself(write_launch: WriteLaunch) -> None:
    file = write_launch('<arg name="a" default="1"/><include file="$(dirname)/test.launch.xml"/>')
    assert show_args(file, {}).count("'a':") == 1


def test_arguments_of_the_command_line() -> None:
    assert parse_arguments(["a:=1", "b:=x:=y", "a:=2", "c:="]) == {"a": "2", "b": "x:=y", "c": ""}


@pytest.mark.parametrize("text", ["a", "a=1", ":=1", ":=", "a:1"])
def test_malformed_arguments(text: str) -> None:
    with pytest.raises(LaunchError, match=f"malformed launch argument '{text}', expected 'name:=value'"):
        parse_arguments([text])
