# SPDX-License-Identifier: Apache-2.0
"""Modules, files and headings that the documentation, comments and docstrings name are where they are said to be."""

import re
from functools import cache
from pathlib import Path

import pytest
from documented_pages import PAGES, ROOT, blocks

SOURCES = sorted(ROOT.glob("src/serl_*/**/*.*"))  # tests name what is not there, too
FILES = [
    *PAGES,
    ROOT / "CHANGELOG.md",
    ROOT / "pyproject.toml",
    *(path for path in SOURCES if path.suffix in {".py", ".xml", ".yaml", ".msg", ".srv"} and "test" not in path.parts),
]
PATTERN = re.compile(r"\b[A-Z]+\.\w+$")  # NAME.yaml stands for many
_MODULE = re.compile(r"\bserl_(?:cli|bench|launch|training|teleop|sim|cameras|tasks|robots|ros|rl|config)(?:\.\w+)+")
_FILE = re.compile(
    r"(?<![\w/.-])((?:serl_\w+|src|tests|docs|config|launch|urdf|scripts)/[\w./-]*"
    r"\.(?:py|md|yaml|xml|xacro|safetensors))\b"
)


@cache
def modules() -> dict[str, str]:
    """Text of each module by its name, those included that pages tell a reader to write."""
    texts = {}
    for path in ROOT.glob("src/serl_*/serl_*/**/*.py"):
        texts[".".join(path.relative_to(ROOT).with_suffix("").parts[2:])] = path.read_text(encoding="utf-8")
    for path, text in written().items():
        if path.endswith(".py"):
            texts[".".join(Path(path).with_suffix("").parts[2:])] = text
    return {name.removesuffix(".__init__"): text for name, text in texts.items()}


@cache
def written() -> dict[str, str]:
    return {block.path: block.text for page in PAGES for block in blocks(page) if block.path}


def has(name: str) -> bool:
    """Whether a dotted name is a module, or something that a module's text has."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        module = ".".join(parts[:end])
        if module in modules():
            return end == len(parts) or re.search(rf"\b{parts[end]}\b", modules()[module]) is not None
    return False


def exists(file: str) -> bool:
    package = ROOT / "src" / file.partition("/")[0]
    places = (ROOT, ROOT / "src", package, ROOT / "src" / "serl_bringup")
    return file in written() or any((place / file).exists() for place in places)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_modules_and_files_are_where_they_are_said_to_be(file):
    text = file.read_text(encoding="utf-8")
    assert [name for name in set(_MODULE.findall(text)) if not has(name)] == []
    assert [name for name in set(_FILE.findall(text)) if not exists(name) and not PATTERN.search(name)] == []


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for label, target in re.findall(r"\[([^\]]*)\]\(([^)\s]+)\)", text):
        file, _, heading = target.partition("#")
        if "://" in file:
            continue
        linked = page.parent / file if file else page
        assert linked.exists(), f"{page.name}: {target}"
        if heading:
            assert heading in headings(linked), f"{page.name}: {target}"
        if label.endswith((".py", ".md", ".yaml")):
            assert Path(label).name == linked.name, f"{page.name}: the link {label} leads to {target}"


def headings(page: Path) -> set[str]:
    """Names of a page's headings, as links have them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
