# SPDX-License-Identifier: Apache-2.0
"""The locks install on any day: real pip, and an index that has something newer of everything."""

import base64
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("jazzy", "kilted", "native")
NATIVE = ROOT / "requirements/native.txt"
NEWER = "99999"
# What takes part in the installation itself has to be real; what has no wheel has to be built.
REAL = ("packaging", "setuptools")
BUILT = "empy"

ENTRY = re.compile(r"^([\w.-]+)(?:\[[^]]*\])?==(\S+)(?: ; (.*?))? \\\n((?:[ \t].*\n?)*)", re.MULTILINE)


def wheel(folder: Path, name: str, version: str, requires: list[str]) -> None:
    """An empty package that requires something."""
    stem = f"{name.replace('-', '_')}-{version}"
    files = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nProvides-Extra: more\n"
        + "".join(f"Requires-Dist: {text}\n" for text in requires),
        "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    write_wheel(folder / f"{stem}-py3-none-any.whl", {f"{stem}.dist-info/{k}": v.encode() for k, v in files.items()})


def write_wheel(path: Path, files: dict[str, bytes]) -> None:
    record = next(name for name in files if name.endswith("/METADATA")).replace("METADATA", "RECORD")
    rows = [f"{name},sha256={digest(data)},{len(data)}" for name, data in files.items()]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr(record, "\n".join([*rows, f"{record},,", ""]))


def digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def installed_as_wheel(folder: Path, name: str) -> None:
    """Pack a package of this environment again."""
    found = distribution(name)
    files = {
        str(file): Path(file.locate()).read_bytes()
        for file in found.files or ()
        if file.suffix != ".pyc" and file.name not in ("RECORD", "INSTALLER", "REQUESTED") and ".." not in file.parts
    }
    write_wheel(folder / f"{name}-{found.version}-py3-none-any.whl", files)


def source(folder: Path, name: str, version: str) -> None:
    """A package of the old kind, which has to be built with setuptools."""
    setup = f"from setuptools import setup\nsetup(name={name!r}, version={version!r})\n".encode()
    with tarfile.open(folder / f"{name}-{version}.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo(f"{name}-{version}/setup.py")
        info.size = len(setup)
        archive.addfile(info, io.BytesIO(setup))


def publish(index: Path, lock: str) -> str:
    """Fill an index with stand-ins for what a lock names, each also in a newer version; return their lock."""
    found = {match[1]: match for match in ENTRY.finditer(lock)}
    requires: dict[str, list[str]] = {name: [] for name in found}
    for name, match in found.items():
        for asking in re.findall(r"#(?: via)? +([a-z][\w-]*)$", match[4], re.MULTILINE):
            if asking in requires:  # with an extra, for which pip would look for the newest version
                requires[asking].append(f"{name}[more]" + (f" ; {match[3]}" if match[3] else ""))
    lines = []
    for match in ENTRY.finditer(lock):
        name, version, marker = match[1], match[2], match[3]
        folder = index / name
        folder.mkdir(parents=True, exist_ok=True)
        if name in REAL:
            version = distribution(name).version
            installed_as_wheel(folder, name)
        elif name == BUILT:
            source(folder, name, version)
        else:
            wheel(folder, name, version, requires[name])
        (file,) = folder.glob(f"*-{version}[-.]*")
        checksum = hashlib.sha256(file.read_bytes()).hexdigest()
        lines.append(f"{name}=={version}" + (f" ; {marker}" if marker else "") + f" \\\n    --hash=sha256:{checksum}\n")
        wheel(folder, name, NEWER, ["a-package-that-nobody-has"])
        links = "".join(f'<a href="{path.name}">{path.name}</a>' for path in sorted(folder.iterdir()))
        (folder / "index.html").write_text(f"<!DOCTYPE html><html><body>{links}</body></html>")
    return "".join(lines)


@pytest.fixture(scope="module")
def empty_venv(tmp_path_factory):
    venv = tmp_path_factory.mktemp("venv") / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    return venv


@pytest.fixture
def installation(tmp_path, empty_venv):
    """A function that installs a lock as ./serl does, from the index in the folder `index`."""
    venv = tmp_path / "venv"
    shutil.copytree(empty_venv, venv, symlinks=True)
    index = (tmp_path / "index").as_uri()
    # A person's own settings of pip, all of which would change what is installed or where.
    (tmp_path / "pip.conf").write_text(
        f"[global]\nindex-url = {index}\nextra-index-url = {index}\nfind-links =\n"
        f"constraint = {tmp_path}/constraints.txt\n[install]\nuser = true\nno-binary = :all:\n"
    )
    (tmp_path / "constraints.txt").write_text("numpy<1\n")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
        "PIP_TARGET": str(tmp_path / "elsewhere"),
        "PIP_REQUIRE_VIRTUALENV": "true",
    }
    script = f"""set -euo pipefail
say() {{ printf 'serl: %s\\n' "$*" >&2; }}; die() {{ say "error: $*"; exit 1; }}
root={ROOT} venv={venv} requirements={tmp_path}/lock.txt
. "$root/scripts/setup.bash"; setup_log={tmp_path}/setup.log; install_packages"""

    def install(lock: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "lock.txt").write_text(lock)
        return subprocess.run(
            ["bash", "-c", script], env=environment, capture_output=True, text=True, check=False, timeout=100
        )

    return install


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_installs_while_everything_has_a_newer_version(lock, installation, tmp_path):
    text = publish(tmp_path / "index", (ROOT / f"requirements/{lock}.txt").read_text())
    result = installation(text)
    assert result.returncode == 0, result.stderr
    python = tmp_path / "venv/bin/python"
    listing = subprocess.run(
        [python, "-I", "-c", "from importlib.metadata import *\nfor d in distributions(): print(d.name, d.version)"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert NEWER not in listing and f"{BUILT} " in listing
    assert not (tmp_path / "elsewhere").exists()
    if lock == "native":  # and it is --no-deps that makes it so
        command = [python, "-I", "-m", "pip", "install", "--dry-run", "--ignore-installed", "--require-hashes"]
        index = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": (tmp_path / "index").as_uri()}
        command += ["--no-build-isolation", "-r", tmp_path / "lock.txt"]
        resolved = subprocess.run(command, env=index, capture_output=True, text=True, check=False)
        assert resolved.returncode != 0 and "must have their versions pinned" in resolved.stderr


def test_a_hole_in_a_lock_is_named_in_one_line(installation, tmp_path):
    whole = NATIVE.read_text()
    few = "".join(match[0] for match in ENTRY.finditer(whole) if match[1] in (*REAL, "pytest-cov", "coverage"))
    text = publish(tmp_path / "index", few)
    result = installation("".join(match[0] for match in ENTRY.finditer(text) if match[1] != "coverage"))
    assert result.returncode == 1
    (line,) = [line for line in result.stderr.splitlines() if "has a hole" in line]
    assert re.search(r"lock\.txt has a hole: pytest-cov [\d.]+ requires coverage\[more\]", line)


def test_what_is_said_beside_a_lock_is_no_hole(installation, tmp_path):
    index = tmp_path / "index"
    text = ""
    for name, requires in (("acts", ["pins<1", "films", "real"]), ("pins", []), ("real", [])):
        (index / name).mkdir(parents=True)
        wheel(index / name, name, "2", requires)
        (file,) = (index / name).iterdir()
        (index / name / "index.html").write_text(f'<a href="{file.name}">{file.name}</a>')
        text += f"{name}==2 \\\n    --hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}\n"
    text += publish(index, "".join(m[0] for m in ENTRY.finditer(NATIVE.read_text()) if m[1] in REAL))
    (tmp_path / "lock.overrides").write_text("# newer\nPins\n")
    assert "acts 2 requires films" in installation(text).stderr
    (tmp_path / "lock.excludes").write_text("films\n")
    (tmp_path / "lock.overrides").write_text("# pins\n")
    assert "acts 2 requires pins<1" in installation(text).stderr
    (tmp_path / "lock.overrides").write_text("Pins\n")
    assert installation(text).returncode == 0


@pytest.mark.parametrize("extra", sorted(path.stem for path in (ROOT / "requirements/extras").glob("*.txt")))
def test_an_optional_package_takes_nothing_of_ours_in_another_version(extra):
    def pins(lock: Path) -> dict[tuple[str, str], str]:
        return {(match[1], match[3] or ""): match[2] for match in ENTRY.finditer(lock.read_text())}

    ours, theirs = pins(NATIVE), pins(ROOT / f"requirements/extras/{extra}.txt")
    assert theirs
    names = {name for name, _ in theirs}
    same = {pin: version for pin, version in theirs.items() if pin in ours}
    assert same == {pin: ours[pin] for pin in same}
    assert {ours[pin] for pin in ours if pin[0] in names} >= {
        version for (name, _), version in theirs.items() if name in {pin[0] for pin in ours}
    }


def test_each_optional_part_has_a_job_and_tests_that_say_what_brings_it():
    parts = {re.sub("^torch-.*", "torch", path.stem) for path in (ROOT / "requirements/extras").glob("*.txt")}
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    assert set(workflow["jobs"]["extras"]["strategy"]["matrix"]["extra"]) == parts
    tests = [path.read_text() for kind in ("src/*/test", "tests") for path in ROOT.glob(f"{kind}/**/*.py")]
    said = {name for text in tests for name in re.findall(r"\./serl setup ([a-z]\w*)", text)}
    assert parts <= said


def test_what_is_left_out_is_said_at_the_end(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "import pytest\n\ndef test_one():\n    pytest.skip('films: ./serl setup films')\n\n"
        "def test_two():\n    pytest.importorskip('no_such_package', reason='./serl setup gym no-such')\n\n"
        "def test_other():\n    pytest.skip('no camera')\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "conftest",
        tmp_path / "test_it.py",
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    *_, line, closing = result.stdout.splitlines()
    assert line == "left out, as ./serl setup NAME has not brought it: films (1), gym no-such (1)"
    assert closing.startswith("3 skipped")


def test_every_requirement_of_what_is_installed_is_in_the_lock():
    ros = os.environ.get("SERL_ROS_DISTRO", "native")
    command = [sys.executable, "-I", ROOT / "scripts/check_venv.py", ROOT / f"requirements/{ros}.txt"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
