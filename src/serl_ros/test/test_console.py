# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import signal
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def handlers():
    """Leave the handlers of signals as they were; a node's are for its process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Write the module of a node, for this Python and for the one in a new process."""
    folder = tmp_path / "serl_thing"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda text: (folder / "thing_node.py").write_text(text)
    for name in [name for name in sys.modules if name.startswith("serl_thing")]:
        del sys.modules[name]


def entry_point() -> EntryPoint:
    return EntryPoint("thing", "serl_ros.console:serl_thing.thing_node", "console_scripts")


def test_an_entry_point_starts_the_main_of_a_module(package):
    package("def main():\n    return 3\n")
    assert entry_point().load()() == 3


def test_the_workspaces_own_python_shows_where_an_import_failed(package, monkeypatch):
    package("import nothing_of_that_name\n")
    monkeypatch.setattr(sys, "prefix", str(SOURCE.parents[1] / ".venv"))
    with pytest.raises(ModuleNotFoundError, match="nothing_of_that_name"):
        entry_point().load()()


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("import gymnasium_of_the_workspace\n", "gymnasium_of_the_workspace"),
        ("def main():\n    import jax_of_the_workspace\n", "jax_of_the_workspace"),
        ("from json import NothingOfThatName\n", "NothingOfThatName"),  # an older version of something
    ],
)
def test_another_python_is_told_in_one_line_what_to_source(package, tmp_path, text, missing):
    package(text)
    script = tmp_path / "thing"
    script.write_text("from serl_ros.console import serl_thing\nserl_thing.thing_node()\n")
    python = Path(sys.base_prefix) / "bin/python3"  # outside of the workspace, and without anything installed
    environment = {"PYTHONPATH": f"{tmp_path}:{SOURCE}"}
    result = subprocess.run(
        [python, "-S", script], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"serl: thing is run by {python}") and missing in line
    assert line.endswith(f'eval "$({SOURCE.parents[1]}/serl env)"')


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_node_is_imported_ends_it_without_a_word(package, tmp_path, number):
    package("print('importing', flush=True)\nimport threading\nthreading.Event().wait(30.0)\n")
    script = tmp_path / "thing"
    script.write_text("from serl_ros.console import serl_thing\nserl_thing.thing_node()\n")
    environment = {"PYTHONPATH": f"{tmp_path}:{SOURCE}"}
    command = [sys.executable, script]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as node:
        assert node.stdout is not None and node.stdout.readline() == "importing\n"
        node.send_signal(number)
        out, errors = node.communicate(timeout=20)
    assert (node.returncode, out, errors) == (0, "", "")


def test_small_matrices_keep_no_thread_spinning(package, tmp_path):
    """A core that spins is one that the rest of the graph does not have."""
    (tmp_path / "spinning_node.py").write_text(
        "import os, time\n"
        "def main():\n"
        "    import numpy as np\n"
        "    from scipy.linalg import cho_factor\n"
        "    a = np.eye(200) + 0.1\n"
        "    for _ in range(30): cho_factor(a); a @ a\n"
        "    before = time.process_time(); time.sleep(0.3)\n"
        "    print(time.process_time() - before < 0.03, len(os.listdir('/proc/self/task')))\n"
    )
    program = "from serl_ros import console; console.start('spinning_node')"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["True", "1"], done
