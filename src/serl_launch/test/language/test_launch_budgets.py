# SPDX-License-Identifier: Apache-2.0
"""Small launch files with a large effect, and odd ones: one line each, in little time and memory."""

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from serl_config.text import printable
from serl_launch.language.arguments import show_args
from serl_launch.language.errors import LaunchError
from serl_launch.language.launch_plan import make_plan

DOUBLING = '<let name="x" value="0123456789"/>' + '<let name="x" value="$(var x)$(var x)"/>' * 60
LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE launch [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(12))
    + ']><launch><log message="&m;"/></launch>'
)
OUTSIDE = '<!DOCTYPE launch [<!ENTITY a SYSTEM "file:///etc/passwd">]><launch><log message="&a;"/></launch>'
HUGE = '<let name="x" value="' + "y" * 60_000 + '"/>'

BOMBS = {
    "a variable that doubles itself": (DOUBLING, "gives more than 65536 characters"),
    "many long variables": (
        HUGE + "".join(f'<let name="v{i}" value="$(var x)"/>' for i in range(2000)),
        "more than 16 MiB of text",
    ),
    "a long variable in many words": (
        HUGE + '<set_parameter name="p" value="$(var x)"/>' + '<executable cmd="true $(var x)"/>' * 2000,
        "more than 16 MiB of text",
    ),
    "an argument that doubles": ('<log message="' + "$(env A $(var b " * 30 + "x" + "))" * 30 + '"/>', "nested more"),
    "deep substitutions": ('<log message="' + "$(not " * 50_000 + '"/>', "nested more than 32 deep"),
    "deep groups": ("<group>" * 5000 + "</group>" * 5000, "nested more than 40 deep"),
    "many tags": ('<log message="x"/>' * 20_000, "more than 10000 tags"),
    "a deep expression": ("<log message=\"$(eval '" + "not " * 10_000 + "1')\"/>", "at most 500 characters"),
    "a deep value": (f'<set_parameter name="a" value="{"[" * 50_000}"/>', "not valid YAML"),
    "a huge number": (f'<set_parameter name="a" value="{"9" * 10_000}"/>', "not valid YAML"),
    "a date that is none": ('<set_parameter name="a" value="2026-13-45"/>', "not valid YAML"),
    "a huge file": (" " * 2**21, "at most 1 MiB"),
    "an unknown tag with a long name": (f"<{'x' * 100_000}/>", "is not supported"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_one_line_that_names_the_limit(name: str, plan: Callable[..., object]) -> None:
    content, limit = BOMBS[name]
    tracemalloc.start()
    try:
        with pytest.raises(LaunchError, match=limit) as error:
            plan(content)
        assert tracemalloc.get_traced_memory()[1] < 200e6
    finally:
        tracemalloc.stop()
    _check_line(error.value)


def test_files_that_include_each_other_twice(write_launch: Callable[..., Path], tmp_path: Path) -> None:
    for i in range(45):
        write_launch(f'<include file="$(dirname)/{i + 1}.launch.xml"/>' * 2, f"{i}.launch.xml")
    write_launch('<log message="end"/>', "45.launch.xml")
    with pytest.raises(LaunchError, match="more than 500 includes in one launch") as error:
        make_plan(tmp_path / "0.launch.xml", {}, {}, tmp_path)
    _check_line(error.value)
    assert "No arguments" in show_args(tmp_path / "0.launch.xml", {})


def test_deep_groups_in_files_that_include_themselves(write_launch: Callable[..., Path], tmp_path: Path) -> None:
    include = '<include file="$(dirname)/test.launch.xml"/>'
    file = write_launch("<group>" * 35 + include + "</group>" * 35)
    with pytest.raises(LaunchError, match=r"nested too deep|include each other"):
        make_plan(file, {}, {}, tmp_path)


ODD_FILES = {
    "entities": LAUGHS.encode(),
    "an entity of another file": OUTSIDE.encode(),
    "nothing": b"",
    "NUL": b'<launch><log message="\0"/></launch>',
    "bytes that are no text": b'<launch><log message="\xff\xfe"/></launch>',
    "an encoding that nobody knows": b'<?xml version="1.0" encoding="rot13"?><launch/>',
    "an encoding of several bytes": b'<?xml version="1.0" encoding="shift_jis"?><launch/>',
    "a parameter file of YAML": b"a:\n  ros__parameters:\n    b: 1\n",
    "two documents": b"<launch/><launch/>",
    "another tag with a line end in an attribute": b'<launch><log "a&#10;b"="1"/></launch>',
    "a line end in a value": b'<launch><node pkg="a&#10;b&#27;[2J" exec="c"/></launch>',
}


@pytest.mark.parametrize("name", ODD_FILES)
def test_an_odd_file_is_one_line(name: str, tmp_path: Path) -> None:
    file = tmp_path / "odd\n\x1b[1m.launch.xml"
    file.write_bytes(ODD_FILES[name])
    with pytest.raises(LaunchError) as error:
        make_plan(file, {}, {}, tmp_path)
    _check_line(error.value)
    assert "odd\\n\\x1b[1m.launch.xml" in str(error.value)


def test_files_in_other_encodings_and_with_byte_order_marks_are_read(tmp_path: Path) -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "latin-1"):
        declaration = f'<?xml version="1.0" encoding="{"utf-8" if encoding == "utf-8-sig" else encoding}"?>'
        file = tmp_path / "test.launch.xml"
        file.write_bytes(f'{declaration}\r\n<launch><log message="é"/></launch>'.encode(encoding))
        assert "é" in repr(make_plan(file, {}, {}, tmp_path).steps)


def test_a_fifo_or_directory_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.launch.xml")
    for path, found in (
        (tmp_path / "fifo.launch.xml", "a FIFO"),
        (tmp_path, "a directory"),
        (Path("a\0b"), "NUL|null"),
    ):
        with pytest.raises(LaunchError, match=found):
            make_plan(path, {}, {}, tmp_path)


@pytest.mark.parametrize(
    "content", ["a: &a [*a]", "a: &a [x,x]\nb: &b [*a,*a]\nc: [" + "*b, " * 9999 + "]", "a: \0", "["]
)
def test_a_parameter_file_is_read_before_a_node_starts(
    content: str, plan: Callable[..., object], tmp_path: Path
) -> None:
    (tmp_path / "p.yaml").write_text(content)
    with pytest.raises(LaunchError, match=r"<param>: cannot use the parameter file: .*p\.yaml") as error:
        plan('<node pkg="robot" exec="driver"><param from="$(dirname)/p.yaml"/></node>')
    _check_line(error.value)


def _check_line(error: LaunchError) -> None:
    assert printable(str(error)) == str(error)
    assert len(str(error)) < 2100
