# SPDX-License-Identifier: Apache-2.0
import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from serl_launch.language.commands import split_words
from serl_launch.language.scope import Scope
from serl_launch.language.substitutions import parse_template
from serl_launch.language.values import Value, coerce, typed_template

SCOPE = Scope({"int": "3", "float": "0.5", "list": "[1, 2]", "text": "a b", "quoted": "'3'"}, {}, Path("/f"))


def same(value: Value, expected: Value) -> bool:
    if isinstance(value, list) and isinstance(expected, list):
        return len(value) == len(expected) and all(map(same, value, expected))
    return type(value) is type(expected) and value == expected


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("1", None, 1),
        ("1.5", None, 1.5),
        ("true", None, True),
        ("yes", None, True),
        ("abc", None, "abc"),
        ("", None, ""),
        ("'1'", None, "1"),
        ("1e5", None, "1e5"),
        ("[1, 2, 3]", None, [1, 2, 3]),
        ("[a, '1']", None, ["a", "1"]),
        ("[]", None, []),
        ("$(var int)", None, 3),
        ("$(var float)", None, 0.5),
        ("$(var list)", None, [1, 2]),
        ("$(var quoted)", None, "3"),
        ("'$(var int)'", None, 3),
        ("[$(var int), 4]", None, [3, 4]),
        ("$(var text) c", None, "a b c"),
        ("1", "str", "1"),
        ("'1'", "str", "'1'"),
        ("$(var int)", "str", "3"),
        ("{a: 1}", "str", "{a: 1}"),
        ("a: b: c", None, "a: b: c"),
        ("1", "float", 1.0),
        ("1e5", "float", 1e5),
        ("$(var int)", "float", 3.0),
        ("7", "int", 7),
        ("1", "bool", True),
        ("off", "bool", False),
        ("[1, 2]", "list_of_int", [1, 2]),
        ("[1.0, $(var float)]", "list_of_float", [1.0, 0.5]),
        ("[$(var int)]", "list_of_str", ["3"]),
        ("[true, false]", "list_of_bool", [True, False]),
        ("0x10", "yaml", 16),
    ],
)
def test_value(text: str, kind: str | None, value: Value) -> None:
    found = typed_template(text, kind).evaluate(SCOPE.evaluate)
    assert same(found, value), found


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("{a: 1}", None, 'give type="str"'),
        ("null", None, "expected a bool, a number"),
        ("[1, 2.0]", None, "one type"),
        ("[1, a]", None, "one type"),
        ("[[1], [2]]", None, "list of bools, numbers or texts"),
        ("1.5", "int", "expected int, found '1.5'"),
        ("abc", "float", "expected float, found 'abc'"),
        ("2", "bool", "expected true or false"),
        ("[1, 2]", "list_of_float", "expected a list of float"),
        ("[false]", "list_of_int", "expected a list of int"),
        ("3", "list_of_int", "expected a list of int"),
        ("[]", "list_of_int", "expected a list of int"),
        ("$(var text)", "int", "expected int, found 'a b'"),
        ("[$(var int), 0.5]", None, "one type"),
        ("1", "double", "expected a type of str"),
    ],
)
def test_value_of_the_wrong_type(text: str, kind: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        typed_template(text, kind).evaluate(SCOPE.evaluate)


def test_separated_values_are_typed_one_by_one() -> None:
    assert same(typed_template(["1", "$(var int)"], None).evaluate(SCOPE.evaluate), [1, 3])
    assert same(typed_template(["1", "2"], "list_of_str").evaluate(SCOPE.evaluate), ["1", "2"])
    with pytest.raises(ValueError, match='type="int" is not'):
        typed_template(["1", "2"], "int")


SCALARS = st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text("abc 1.:#[]-'\n", max_size=8)


@given(SCALARS | st.lists(st.integers(), min_size=1) | st.lists(st.booleans(), min_size=1))
def test_untyped_text_is_read_as_yaml_writes_it(value: Value) -> None:
    assert same(coerce(yaml.safe_dump(value), None), value)


@given(st.floats(allow_nan=False))
def test_typed_numbers_are_exact(value: float) -> None:
    assert coerce(repr(value), "float") == value


def test_infinity_and_nan_are_floats() -> None:
    assert math.isnan(float(str(coerce("nan", "float"))))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a b  c", ["a", "b", "c"]),
        ("a 'b c' \"d e\"", ["a", "b c", "d e"]),
        ("a ''", ["a", ""]),
        ("--x $(var text) y", ["--x", "a b", "y"]),
        ("$(var text)/bin --x=$(var int)", ["a b/bin", "--x=3"]),
        ("$(var int)$(var float)", ["30.5"]),
        ("$(var int) $(var float)", ["3", "0.5"]),
        ("  a  ", ["a"]),
        ("", []),
    ],
)
def test_command_lines_are_split_before_substitution(text: str, words: list[str]) -> None:
    assert [SCOPE.evaluate(word) for word in split_words(parse_template(text))] == words
