# SPDX-License-Identifier: Apache-2.0
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serl_launch.language.expression import ExpressionError, compare
from serl_launch.language.functions import SubstitutionError, check, truth
from serl_launch.language.scope import Scope
from serl_launch.language.substitutions import Call, SubstitutionSyntaxError, Template, Text, parse_template

SCOPE = Scope(
    {"one": "1", "half": "0.5", "word": "pick", "words": "pick cube", "empty": "", "name": "word", "yes": "True"},
    {"HOME": "/home/somebody"},
    Path("/somewhere/launch/a.launch.xml"),
)


def evaluate(text: str) -> str:
    template = parse_template(text)
    check(template)
    return SCOPE.evaluate(template)


# --- the grammar ---------------------------------------------------------------------------------


def escape(text: str, special: str) -> str:
    return "".join(f"\\{character}" if character in special else character for character in text)


def write(template: Template, special: str = "\\$", *, quoted: bool = False) -> str:
    """Text of a template; `special` is what needs a backslash where it stands."""
    return "".join(
        escape(part.text, special)
        if isinstance(part, Text)
        else f"$({' '.join([part.name, *(write_argument(argument, quoted) for argument in part.arguments)])})"
        for part in template
    )


def write_argument(argument: Template, quoted: bool) -> str:
    needs_quotes = not argument or any(isinstance(part, Text) and " " in part.text for part in argument)
    if needs_quotes and not quoted:
        return '"' + write(argument, '\\$"', quoted=True) + '"'
    return write(argument, "\\$()'\"", quoted=quoted)


NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,5}", fullmatch=True)


def literals(alphabet: str) -> st.SearchStrategy[Text]:
    return st.builds(Text, st.text(alphabet, min_size=1, max_size=6))


def templates(
    texts: st.SearchStrategy[Text], calls: st.SearchStrategy[Call], *, least: int, bare: bool
) -> st.SearchStrategy[Template]:
    """Sequences as a parser makes them: no two texts side by side.

    None ends in a backslash before `$(`, nor a bare argument before `)`: the grammar has no way to write that.
    """

    def can_be_written(template: list[Text | Call]) -> bool:
        following = [*template[1:], Call("end", ())] if bare else template[1:]
        return not any(
            isinstance(left, Text) and (isinstance(right, Text) or left.text.endswith("\\"))
            for left, right in zip(template, following, strict=False)
        )

    return st.lists(texts | calls, min_size=least, max_size=3).filter(can_be_written).map(tuple)


ALPHABET = "ab1$()'\"\\_-é"
INNER_CALLS = st.deferred(lambda: st.builds(Call, NAMES, st.lists(INNER_ARGUMENTS, max_size=2).map(tuple)))
INNER_ARGUMENTS = templates(literals(ALPHABET), INNER_CALLS, least=1, bare=True)
CALLS = st.deferred(lambda: st.builds(Call, NAMES, st.lists(BARE_ARGUMENTS | QUOTED_ARGUMENTS, max_size=2).map(tuple)))
BARE_ARGUMENTS = templates(literals(ALPHABET), CALLS, least=1, bare=True)
QUOTED_ARGUMENTS = templates(literals(ALPHABET + " \n"), INNER_CALLS, least=0, bare=True)
TEMPLATES = templates(literals(ALPHABET + " \n"), CALLS, least=0, bare=False)


@settings(max_examples=60)
@given(TEMPLATES)
def test_what_is_written_is_read_back(template: Template) -> None:
    assert parse_template(write(template)) == template


@given(st.text(string.ascii_letters + "$() '\"\\", max_size=20))
def test_any_text_is_a_template_or_a_syntax_error(text: str) -> None:
    try:
        template = parse_template(text)
    except SubstitutionSyntaxError as error:
        assert "column" in str(error)
    else:
        assert text or template == ()


@given(st.text(string.ascii_letters + "() '\"/.{}[]:=", max_size=20))
def test_text_without_dollar_and_backslash_is_itself(text: str) -> None:
    assert evaluate(text) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain 'quoted' \"text\"", "plain 'quoted' \"text\""),
        ("$5 and $", "$5 and $"),
        (r"\$(var one)", "$(var one)"),
        (r"a\\b\c", r"a\bc"),
        ("a$(var one)b$(var word)", "a1bpick"),
        ("$(var $(var name))", "pick"),
        ("$(var wo$(var empty)rd)", "pick"),
        ("$(var missing default)", "default"),
        ("$(var missing 'a default')", "a default"),
        ("$(var missing '')", ""),
        ('$(var missing "it\'s")', "it's"),
        (r"$(var missing 'it\'s')", "it's"),
        (r"$(var missing \(a\))", "(a)"),
        ("$(var missing '(a)')", "(a)"),
        ("$(var missing '$(var words)')", "pick cube"),
        ("$(var missing $(var words))", "pick cube"),
        ("$(env HOME)", "/home/somebody"),
        ("$(env NOT_SET fallback)", "fallback"),
        ("$(dirname)/b.xml", "/somewhere/launch/b.xml"),
    ],
)
def test_substitution(text: str, value: str) -> None:
    assert evaluate(text) == value


@pytest.mark.parametrize(
    "text",
    ["$(", "$()", "$(var", "$(var )", "$(var  one)", "$(var one", "$(var 'one)", "$(var a'b')", "$(1a)", "$(var (a))"],
)
def test_syntax_errors_say_where(text: str) -> None:
    with pytest.raises(SubstitutionSyntaxError, match=r"expected .* at column"):
        parse_template(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("$(command 'rm -rf /')", "command .* is not supported; .*supported are .*var name"),
        ("$(var)", r"expected \$\(var name \[default\]\), found 0 arguments"),
        ("$(dirname here)", "found 1 arguments"),
        ("$(not $(anon x))", "anon .* is not supported"),
        ("$(equals $(var empty) '')", "cannot compare with ''"),
        ("$(var missing)", "no such argument or variable here; known are .*word"),
        ("$(env NOT_SET)", "not set and no default"),
        ("$(not maybe)", "expected true or false, found 'maybe'"),
        ("$(find-pkg-share nothing)", "package 'nothing' not found; .*AMENT_PREFIX_PATH is empty"),
    ],
)
def test_substitution_errors_say_what_to_do(text: str, message: str) -> None:
    with pytest.raises(SubstitutionError, match=message):
        evaluate(text)


# --- truth and comparisons -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$(equals a a)", True),
        ("$(equals a A)", False),
        ("$(equals 0 0.0)", True),
        ("$(equals 0.1 0.10000000000000001)", True),
        ("$(equals True 1)", True),
        ("$(equals false 1)", False),
        ("$(equals 1 2)", False),
        ("$(equals $(var empty) x)", False),
        ("$(equals 'pick cube' $(var words))", True),
        ("$(not true)", False),
        ("$(not $(var yes))", False),
        ("$(and true 1)", True),
        ("$(and true off)", False),
        ("$(or false 0)", False),
        ("$(or $(equals a b) $(not no))", True),
        ("$(eval '1 < 2 <= 2.0')", True),
        ("$(eval '$(var half) > 1')", False),
        ("$(eval \"'$(var word)' == 'pick'\")", True),
        ("$(eval \"'$(var empty)' == ''\")", True),
        ("$(eval \"'$(var word)' in ('pick', 'place')\")", True),
        ("$(eval \"not ('a' != 'a' or 1 >= 2) and True\")", True),
        ("$(eval '-1 < 0')", True),
        ("$(eval '1 + 2 + 3 == 6')", True),
    ],
)
def test_condition(text: str, value: bool) -> None:
    assert truth(evaluate(text)) is value


@pytest.mark.parametrize("text", ["true", "TRUE", " True ", "1", "\t1\n"])
def test_true_conditions(text: str) -> None:
    assert truth(text)


@pytest.mark.parametrize("text", ["", "yes", "2", "truee", "None", "on"])
def test_everything_else_is_no_condition(text: str) -> None:
    with pytest.raises(SubstitutionError, match="expected true, 1, false or 0"):
        truth(text)


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('true')",
        "open('/etc/passwd')",
        "pi",
        "1 - 1",
        "'a' + 'b'",
        "1 + True",
        "2 ** 999999999",
        "(1).real",
        "[x for x in (1, 2)]",
        "lambda: 1",
        "f'{1}'",
        "1 is 1",
        "(1, 2)",
        "(1, (2, 3)) == 1",
        "1 <",
        "1 < 'a'",
        "-'a'",
        "x := 1",
        "",
        "\0",
        "b'a' == b'a'",
    ],
)
def test_eval_takes_comparisons_of_constants_only(expression: str) -> None:
    with pytest.raises(ExpressionError):
        compare(expression)


@given(st.integers(-100, 100), st.integers(-100, 100), st.sampled_from(["==", "!=", "<", "<=", ">", ">="]))
def test_eval_compares_as_python_does(left: int, right: int, operator: str) -> None:
    order = (left > right) - (left < right)
    expected = {"==": order == 0, "!=": order != 0, "<": order < 0, "<=": order <= 0, ">": order > 0, ">=": order >= 0}
    assert compare(f"{left} {operator} {right}") is expected[operator]


@given(st.booleans(), st.booleans(), st.booleans())
def test_eval_combines_as_python_does(a: bool, b: bool, c: bool) -> None:
    assert compare(f"{a} and {b} or not {c}") is ((a and b) or not c)
