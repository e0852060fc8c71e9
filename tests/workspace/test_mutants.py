# SPDX-License-Identifier: Apache-2.0
"""The list of faults fits the code, and `./serl test --mutants` tells noticed ones from those that survive."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load():
    spec = importlib.util.spec_from_file_location("serl_mutants", ROOT / "scripts/mutants.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for annotations
    spec.loader.exec_module(module)
    return module


mutants = load()
LIST = mutants.read_list(ROOT)


@pytest.mark.parametrize("mutant", LIST, ids=lambda mutant: f"{mutant.file.name}: {mutant.why}")
def test_the_text_of_every_fault_is_in_its_file_once(mutant):
    text = (ROOT / mutant.file).read_text(encoding="utf-8")
    assert mutant.of(text) != text


def test_there_are_faults_in_all_algorithms_and_what_feeds_them():
    assert len(LIST) >= 40
    assert len({(mutant.file, mutant.old, mutant.new) for mutant in LIST}) == len(LIST)
    algorithms = {f"{name}.py" for name in ("sac", "drqv2", "hybrid", "bc", "vice")}
    assert {mutant.file.name for mutant in LIST} >= algorithms | {"acting.py", "buffer.py", "sampler.py"}


CODE = "def double(x):\n    return 2 * x\n"
TEST = "from serl_rl.double import double\n\ndef test_three():\n    assert double(3) == 6\n"


@pytest.fixture
def small(tmp_path):
    """Return what makes a workspace with one function, one test and some faults."""

    def make(*faults: tuple[str, str]) -> Path:
        entries = [
            f"[[file.mutant]]\nwhy = 'w{i}'\nold = '{old}'\nnew = '{new}'" for i, (old, new) in enumerate(faults)
        ]
        head = "[[file]]\npath = 'serl_rl/double.py'\ntests = ['test_double.py']"
        files = {
            "pyproject.toml": (ROOT / "pyproject.toml").read_text(encoding="utf-8"),
            "config/learning.yaml": "",
            "src/serl_rl/serl_rl/__init__.py": "",
            "src/serl_rl/serl_rl/double.py": CODE,
            "src/serl_rl/test/test_double.py": TEST,
            "src/serl_rl/test/mutants.toml": "\n".join([head, *entries]),
        }
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path

    return make


def test_a_fault_that_survives_is_named_and_fails(small, capsys):
    root = small(("2 * x", "3 * x"), ("2 * x", "3 + x"))
    assert mutants.main([], root) == 1
    said = capsys.readouterr().out
    assert "double.py: w0: killed by test_double.py::test_three" in said
    assert "double.py: w1: SURVIVED" in said
    assert said.endswith("serl: 1 of 2 faults were noticed\n")
    assert (root / "src/serl_rl/serl_rl/double.py").read_text() == CODE


def test_all_noticed_is_a_success_and_words_choose(small, capsys):
    root = small(("2 * x", "3 * x"), ("2 * x", "3 + x"))
    assert mutants.main(["w0"], root) == 0
    assert capsys.readouterr().out.endswith("serl: 1 of 1 faults were noticed\n")
    assert mutants.main(["w7"], root) == 1
    assert "no fault has any of the words ['w7']" in capsys.readouterr().err


def test_tests_of_other_names_do_not_notice_where_only_some_run(small, capsys):
    root = small(("2 * x", "3 * x"))
    file, fault = root / "src/serl_rl/test/mutants.toml", "only = 'three'\n[[file.mutant]]"
    file.write_text(file.read_text(encoding="utf-8").replace("[[file.mutant]]", fault), encoding="utf-8")
    other = root / "src/serl_rl/test/test_double.py"
    other.write_text(TEST.replace("6", "9") + "\ndef test_three_times():\n    pass\n", encoding="utf-8")
    other.write_text(other.read_text().replace("def test_three():", "def test_first():"), encoding="utf-8")
    assert mutants.main([], root) == 1
    assert "double.py: w0: SURVIVED" in capsys.readouterr().out


def test_a_fault_that_breaks_the_import_is_not_taken_for_noticed(small, capsys):
    assert mutants.main([], small(("def double", "def single"))) == 1
    assert "NO ANSWER: pytest ended with status 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (("4 * x", "5 * x"), "double.py: expected once, found 0 times: '4 * x' (w0)"),
        (("x", "y"), "found 2 times: 'x'"),
        (("2 * x", "2 *"), "expected Python, found '2 *'"),
        (("2 * x", "2 * x"), "expected why, old and another new"),
    ],
)
def test_a_list_that_does_not_fit_the_code_fails(small, capsys, fault, message):
    assert mutants.main([], small(fault)) == 1
    assert message in capsys.readouterr().err


def test_tests_that_fail_without_a_fault_say_nothing(small, capsys):
    root = small(("2 * x", "3 * x"))
    (root / "src/serl_rl/test/test_double.py").write_text(TEST.replace("6", "7"), encoding="utf-8")
    assert mutants.main([], root) == 1
    assert "the tests fail without any fault" in capsys.readouterr().err
