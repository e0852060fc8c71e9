# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest
from serl_config.schema import ConfigError, Field, build, config, fields, load_yaml, model_validator


@config
class Inner:
    """Part of a configuration."""

    gain: float = Field(default=1.0, ge=0.0, le=10.0, description="how much")
    names: tuple[str, ...] = ()


@config(kw_only=True)
class Outer:
    """A configuration."""

    title: str
    count: int = 3
    flag: bool = False
    inner: Inner = Inner()
    table: dict[str, Inner] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> "Outer":
        if self.count == 13:
            raise ValueError("count: expected any number but 13")
        return self


@config(kw_only=True)
class Extended(Outer):
    """A configuration that adds a required key."""

    more: float


@pytest.fixture
def write(tmp_path: Path):  # type: ignore[no-untyped-def]
    def write(text: str) -> Path:
        path = tmp_path / "test.yaml"
        path.write_text(text)
        return path

    return write


def test_a_file_becomes_a_frozen_object_with_defaults(write) -> None:
    loaded = load_yaml(write("title: a\ninner: {gain: 2, names: [x, y]}\ntable:\n  one: {gain: 1e-3}\n"), Outer)
    assert loaded == Outer(title="a", inner=Inner(2.0, ("x", "y")), table={"one": Inner(0.001)})
    with pytest.raises(AttributeError):
        loaded.title = "b"


def test_a_whole_number_may_be_written_with_an_exponent(write) -> None:
    assert load_yaml(write("title: a\ncount: 1e5\n"), Outer).count == 100000
    with pytest.raises(ConfigError, match=r"'count': expected a valid integer, found float 1\.5"):
        load_yaml(write("title: a\ncount: 1.5\n"), Outer)


def test_a_class_may_extend_another(write) -> None:
    assert load_yaml(write("title: a\nmore: 1\n"), Extended).more == 1.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title: a\ncont: 3\n", ":2: unknown key 'cont'; did you mean 'count'?"),
        ("title: a\ninner:\n  gian: 3\n", ":3: unknown key 'inner.gian'; did you mean 'gain'?"),
        ("title: a\ntable:\n  one:\n    xyz: 3\n", ":4: unknown key 'table.one.xyz'; known: gain, names"),
        ("count: 3\n", ":1: missing key 'title'"),
        ("title: a\ncount: '3'\n", ":2: 'count': expected a valid integer, found str '3'"),
        ("title: a\ncount: 3.5\n", ":2: 'count': expected a valid integer, found float 3.5"),
        ("title: a\ncount: yes\n", ":2: 'count': expected a valid integer, found bool True"),
        ("title: 3\n", ":1: 'title': expected a valid string, found int 3"),
        ("title: a\ninner:\n  gain: 11\n", ":3: 'inner.gain': expected less than or equal to 10, found int 11"),
        ("title: a\ninner:\n  gain: .nan\n", ":3: 'inner.gain': expected a finite number"),
        ("title: a\ninner: {names: [a, 3]}\n", ":2: 'inner.names.1': expected a valid string, found int 3"),
        ("title: a\ninner: 3\n", ":2: 'inner': expected an object, found int 3"),
        ("title: a\ncount: 13\n", "count: expected any number but 13"),
        ("title: a\ntitle: b\n", "key 'title' is there twice"),
        ("title: a\n1: b\n", "expected text as a key, found int 1 (quote it)"),
        ("title: 2020-01-01\n", "found date"),
        ("- a\n", "expected a mapping of keys to values, found list ['a']"),
        ("", "expected a mapping of keys to values, found nothing"),
        ("title: [a\n", "not valid YAML"),
        ("title: !!python/object:os.system a\n", "not valid YAML"),
    ],
)
def test_what_does_not_fit_is_named_with_file_line_and_key(write, text: str, said: str) -> None:
    path = write(text)
    with pytest.raises(ConfigError) as error:
        load_yaml(path, Outer)
    assert str(error.value).startswith(str(path))
    assert said in str(error.value)


def test_all_problems_are_named_at_once(write) -> None:
    with pytest.raises(ConfigError) as error:
        load_yaml(write("cont: 3\nflag: 3\n"), Outer)
    assert len(str(error.value).splitlines()) == 3


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read"):
        load_yaml(tmp_path / "nowhere.yaml", Outer)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigError, match=r"binary\.yaml"):
        load_yaml(tmp_path / "binary.yaml", Outer)


def test_values_from_elsewhere_are_checked_in_the_same_way() -> None:
    with pytest.raises(ConfigError, match=r"command line: 'inner\.gain'"):
        build(Outer, {"title": "a", "inner": {"gain": -1.0}}, "command line")


def test_a_class_tells_its_fields() -> None:
    (gain, names) = fields(Inner)
    assert (gain.name, gain.description, gain.range) == ("gain", "how much", (0.0, 10.0))
    assert names.range is None
