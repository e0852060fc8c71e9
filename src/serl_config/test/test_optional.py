# SPDX-License-Identifier: Apache-2.0
"""Who lacks an optional package is told which, what for, and the line that brings it."""

import re
from pathlib import Path

import pytest
from serl_config.optional import is_installed, optional_module, setup_line

ROOT = Path(__file__).resolve().parents[3]


class MissingError(Exception):
    pass


def test_a_module_that_is_there_is_imported():
    module = optional_module("json.decoder", extra="x", needed_by="a test", error=MissingError)
    assert module.JSONDecoder().decode("[1]") == [1]
    assert is_installed("json.decoder")


@pytest.mark.parametrize("module", ["no_such_package", "no_such_package.part"])
def test_one_that_is_not_is_named_with_the_line_that_brings_it(module):
    assert not is_installed(module)
    line = r"the film needs the package no_such_package: \./serl setup films brings it \(No module named"
    with pytest.raises(MissingError, match=line):
        optional_module(module, extra="films", needed_by="the film", error=MissingError)


def test_one_that_lacks_something_itself_says_what(tmp_path, monkeypatch):
    (tmp_path / "half_there.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingError, match=r"half_there: .* \(No module named 'no_such_package'\)"):
        optional_module("half_there", extra="films", needed_by="the film", error=MissingError)


def test_every_line_that_is_offered_brings_something():
    if not (ROOT / "serl").is_file():
        pytest.skip("the package lies alone: there is no ./serl")
    locks = {file.stem for file in (ROOT / "requirements/extras").glob("*.txt")} | {"torch"}
    offered = set()
    for file in (ROOT / "src").glob("serl_*/serl_*/**/*.py"):
        text = file.read_text(encoding="utf-8")
        offered |= set(re.findall(r"\./serl setup ([a-z]\w*)", text)) - {"gym", "sets", "that"}
        found = re.findall(r"""setup_line\(['"](\w+)['"]\)|extra(?:: str)? ?= ?"(\w+)"(?:, n|\) ->|,\n)""", text)
        offered |= {first or second for first, second in found}
    assert {"recordings", "piper", "gamepad"} <= offered <= locks
    assert setup_line("torch") == "./serl setup torch"
