#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draw docs/images/floors.svg: packages on their floors, and in each what lies on its floors.

The floors are the contracts of import-linter in pyproject.toml, which ./serl test holds, so the picture is true as long
as it is drawn from them: tests/workspace/test_floors.py compares it. Run it after a contract has changed.
"""

import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs/images/floors.svg"

WIDTH, MARGIN, GAP = 980, 12, 12  # [px]
TITLE, ROW, PAD, LETTER = 26, 24, 8, 6.7  # [px]; the last one is the width of a letter at 11 px
STYLE = """
  text { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: 11px; fill: #1f2933; }
  .name { font-size: 13px; font-weight: 600; } .what { fill: #52606d; }
  .package { fill: #e8eef5; stroke: #52606d; }
  .folder { fill: #a9c3e0; } .file { fill: #ffffff; stroke: #cbd2d9; }
"""

Layers = list[list[str]]


def contracts() -> tuple[Layers, dict[str, Layers]]:
    """The floors of the workspace, top first, and those within the packages that have a contract of their own."""
    settings: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    layers = [each for each in settings["importlinter"]["contracts"] if each["type"] == "layers"]
    inside: dict[str, Layers] = {}
    for contract in layers[1:]:
        for package in contract.get("containers", []):
            inside[package] = split(contract["layers"])
    return split(layers[0]["layers"]), inside


def split(layers: list[str]) -> Layers:
    """Names on each floor: import-linter parts them with | where they are independent, else with :."""
    return [[name.strip(" ()") for name in layer.replace(":", "|").split("|")] for layer in layers]


def wrapped(names: list[str], width: float) -> Layers:
    """A floor's names in as many rows as a box of this width [px] needs."""
    rows: Layers = [[]]
    for name in names:
        if rows[-1] and sum(map(cell_width, [*rows[-1], name])) > width:
            rows.append([])
        rows[-1].append(name)
    return rows


def cell_width(name: str) -> float:
    """Width [px] of a name with its frame and the gap to the next one."""
    return LETTER * len(name) + 2 * PAD + 4


def shown(package: str, name: str) -> str:
    """A folder's name ends in a slash."""
    return f"{name}/" if (ROOT / "src" / package / package / name).is_dir() else name


def description(package: str) -> str:
    """What the package's manifest says that it is."""
    return (ET.parse(ROOT / "src" / package / "package.xml").findtext("description") or "").rstrip(".")


def package_box(package: str, floors: Layers, x: float, y: float, width: float, height: float) -> list[str]:
    """A package's frame, its name, and the rows of what is in it."""
    lines = [
        f'<rect class="package" x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height:.0f}" rx="5"/>',
        f'<text class="name" x="{x + PAD:.0f}" y="{y + 18:.0f}">{escape(package)}</text>',
    ]
    said = description(package)
    if LETTER * len(said) < 0.85 * width:  # a box in a row of several has no room for it
        lines.append(
            f'<text class="what" text-anchor="end" x="{x + width - PAD:.0f}" y="{y + 18:.0f}">{escape(said)}</text>'
        )
    y += TITLE
    for floor in floors:
        for row in wrapped(floor, width - 2 * PAD):
            left = x + PAD
            for name in row:
                kind, wide = "folder" if name.endswith("/") else "file", cell_width(name) - 4
                lines.append(f'<rect class="{kind}" x="{left:.0f}" y="{y:.0f}" width="{wide:.0f}" height="20" rx="3"/>')
                lines.append(f'<text x="{left + PAD:.0f}" y="{y + 14:.0f}">{escape(name)}</text>')
                left += cell_width(name)
            y += ROW
    return lines


def draw(floors: Layers, inside: Mapping[str, Layers]) -> str:
    """The picture, as SVG."""
    y, lines = float(MARGIN), []
    for floor in floors:
        width = (WIDTH - 2 * MARGIN - GAP * (len(floor) - 1)) / len(floor)
        named = {package: [[shown(package, n) for n in row] for row in inside.get(package, [])] for package in floor}
        rows = [sum(len(wrapped(row, width - 2 * PAD)) for row in named[package]) for package in floor]
        height = TITLE + ROW * max(rows) + (PAD if max(rows) else 2)
        for index, package in enumerate(floor):
            lines += package_box(package, named[package], MARGIN + index * (width + GAP), y, width, height)
        y += height + GAP
    body = "\n".join(lines)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y - GAP + MARGIN:.0f}" role="img">\n'
        "<title>Packages on their floors; imports point down</title>\n"
        f"<style>{STYLE}</style>\n"
        f'<rect width="{WIDTH}" height="{y - GAP + MARGIN:.0f}" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(*contracts()), encoding="utf-8")
    print(PICTURE.relative_to(ROOT))
