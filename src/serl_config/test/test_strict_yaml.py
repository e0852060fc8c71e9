# SPDX-License-Identifier: Apache-2.0
"""YAML, JSON and files that nobody should hand in, and that must cost next to nothing."""

import json
import os
import tracemalloc
from pathlib import Path

import pytest
import yaml
from serl_config.files import FileError, read_bytes, read_text
from serl_config.strict_json import JsonError, parse_json
from serl_config.strict_yaml import YamlError, compose_yaml, parse_upstream_yaml, parse_yaml, read_yaml_file
from serl_config.text import printable

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 20)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i}\n  <<: [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))

ODD_YAML = {
    "aliases that double": LAUGHS,
    "merges that double": MERGES,
    "an alias of itself": "a: &a [*a]",
    "a mapping in itself": "a: &a {b: *a}",
    "deep lists": "a: " + "[" * 50_000,
    "deep blocks": "".join(" " * i + f"k{i}:\n" for i in range(500)),
    "deep by aliases": "a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [[[*a{i - 1}]]]\n" for i in range(1, 30)),
    "many keys": "".join(f"key_{i}: 1\n" for i in range(50_000)),
    "a huge file": "# " + "x" * 2**21,
    "a doubled key": "a: 1\na: 2",
    "a number as a key": "1: 2",
    "a list as a key": "? [1]\n: 2",
    "nothing as a key": "~: 2",
    "a merge key": "a: &a {b: 1}\nc: {<<: *a}",
    "a date": "a: 2026-01-31",
    "a date as a key": "2026-01-31: a",
    "a tab": "a:\n\tb: 1",
    "several documents": "a: 1\n---\nb: 2",
    "Python": "a: !!python/object/apply:os.system [ls]",
    "binary": "a: !!binary aGk=",
    "a set": "a: !!set {b, c}",
    "pairs": "a: !!omap [b: 1]",
    "a time stamp that is none": "a: !!timestamp never",
    "a number that is none": "a: !!int x",
    "an empty number": "a: !!int ''",
    "a truth that is none": "a: !!bool perhaps",
    "a mapping that is none": "a: !!map text",
    "a huge number": "a: " + "9" * 10_000,
    "an unknown tag": "a: !mine 1",
    "NUL": "a: b\0c",
    "an escaped NUL": 'a: "b\\0c"',
    "a terminal's escape": 'a: "\\e[2J"',
    "half a character": 'a: "\\ud800"',
    "a control character in a key": '"a\\nb": 1',
    "an open quotation": 'a: "b',
    "an unknown alias": "a: *b",
    "a directive": "%YAML 9.9\n---\na: 1",
}


def test_what_is_hostile_or_odd_is_one_line_with_the_source() -> None:
    for name, text in ODD_YAML.items():
        with pytest.raises(YamlError) as error:
            parse_yaml(text, "file.yaml")
        _check_line(str(error.value), name)


def test_upstream_rules_have_the_same_budget_and_no_other_errors() -> None:
    for name, text in ODD_YAML.items():
        try:
            parse_upstream_yaml(text, "file.yaml")
        except YamlError as error:
            _check_line(str(error), name)
    for text in (LAUGHS, MERGES, "a: " + "[" * 50_000, "a: " + "9" * 10_000, "a: 2026-13-45"):
        with pytest.raises(YamlError):
            parse_upstream_yaml(text, "file.yaml")


def _check_line(line: str, name: str) -> None:
    assert line.startswith("file.yaml"), name
    assert printable(line) == line, name
    assert len(line) < 400, name


def test_small_text_takes_little_memory() -> None:
    for text in (LAUGHS, MERGES, ODD_YAML["deep lists"], ODD_YAML["a huge number"]):
        tracemalloc.start()
        try:
            with pytest.raises(YamlError):
                parse_yaml(text, "file.yaml")
            assert tracemalloc.get_traced_memory()[1] < 20e6
        finally:
            tracemalloc.stop()


def test_an_error_names_the_line_and_the_limit() -> None:
    with pytest.raises(YamlError, match=r"^f:2: not valid YAML: key 'a' is there twice$"):
        parse_yaml("a: 1\na: 2", "f")
    with pytest.raises(YamlError, match="more than 10000 keys and values with all aliases written out"):
        parse_yaml(LAUGHS, "f")
    with pytest.raises(YamlError, match="nested more than 32 deep"):
        parse_yaml("[" * 40 + "]" * 40, "f")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("12:30", "12:30"),
        ("'2026-01-31'", "2026-01-31"),
        ("=", "="),
        ("0x10", 16),
        ("-7", -7),
        ("1_000", 1000),
        ("~", None),
        ("", None),
        ("yes", True),
        (".inf", float("inf")),
        ("é", "é"),
        ("[1, a, {b: 2.5}]", [1, "a", {"b": 2.5}]),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("{a: &x [1, 2], b: *x}", {"a": [1, 2], "b": [1, 2]}),
    ],
)
def test_plain_values(text: str, value: object) -> None:
    found = parse_yaml(text, "f")
    assert found == value and type(found) is type(value)


def test_upstream_reads_what_safe_dump_writes() -> None:
    values = {
        "a": "1e-3",
        "b": "2026-01-31",
        "c": [1, 2.5, True, None, "yes", "12:30", "", " x ", "é\n"],
        "d": {"e": -1e-9},
    }
    assert parse_upstream_yaml(yaml.safe_dump(values), "f") == values


def test_nodes_know_their_lines() -> None:
    node = compose_yaml("a: 1\nb:\n  c: 2\n", "f")
    assert isinstance(node, yaml.MappingNode)
    assert node.value[1][1].value[0][1].start_mark.line == 2


ODD_JSON = [
    "",
    "[" * 100_000,
    "[" * 100_000 + "]" * 100_000,
    '{"a":' * 100_000,
    '["' + '\\"' * 300_000,
    "NaN",
    "[1e999]",
    "-Infinity",
    '{"a": 1, "a": 2}',
    '"\\ud800"',
    "9" * 10_000,
    "[1, 2",
    "0" * 2**21,
    b"\xff\xfe[\x001\x00",
    "\ufeff[]",
]


@pytest.mark.parametrize("text", ODD_JSON, ids=range(len(ODD_JSON)))
def test_odd_json_is_one_line(text: str | bytes) -> None:
    with pytest.raises(JsonError) as error:
        parse_json(text)
    assert printable(str(error.value)) == str(error.value)
    assert len(str(error.value)) < 300


def test_json_is_read_as_the_library_reads_it() -> None:
    value = {"a": [1, 2.5, None, True, '[[[{"\\', "é\U0001f600"], "b": {"c": {}}}
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False), json.dumps(value).encode()):
        assert parse_json(text) == value
    assert parse_json("[" * 64 + "]" * 64)
    brackets = json.dumps("[" * 1000)
    assert parse_json(brackets) == "[" * 1000


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo", "device", "dead link", "large", "not ours", "NUL"])
def test_odd_files_are_one_line_and_no_wait(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a\nname\x1b[2J\udcff.yaml"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "dead link":
        path.symlink_to("nowhere")
    elif kind == "large":
        path.write_bytes(b"x" * 2000)
    elif kind == "not ours":
        path.write_text("a: 1")
        path.chmod(0)
        if os.access(path, os.R_OK):
            pytest.skip("root may read everything")
    elif kind == "NUL":
        path = Path("a\0b")
    with pytest.raises(FileError) as error:
        read_bytes(path, 1000)
    assert printable(str(error.value)) == str(error.value)
    assert str(error.value).startswith(printable(path))


def test_text_may_have_a_byte_order_mark_and_the_line_ends_of_any_system(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\rc: 3\n")
    assert read_text(path) == "a: 1\nb: 2\nc: 3\n"
    assert read_yaml_file(path)[0] == {"a": 1, "b": 2, "c": 3}
    for content, found in (("a: é".encode("latin-1"), "byte 0xe9 in line 1"), ("a: 1".encode("utf-16"), "UTF-16")):
        path.write_bytes(content)
        with pytest.raises(FileError, match=found):
            read_text(path)


def test_an_empty_file_has_no_content(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(b"")
    assert read_yaml_file(path) == (None, None)
