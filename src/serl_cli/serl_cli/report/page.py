# SPDX-License-Identifier: Apache-2.0
"""What the self-contained pages of the command line have in common."""

from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 72em; padding: 0 1em; color: #1c2430;
       background: #fff; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
table { border-collapse: collapse; } td, th { padding: .2em .9em; text-align: right; border-bottom: 1px solid #dde2ea; }
th { font-weight: 600; background: #f4f6f9; } tr.chosen { background: #e6f2e6; font-weight: 600; }
.sides { display: flex; flex-wrap: wrap; gap: 3em; align-items: flex-start; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(270px, 1fr)); gap: 1em; }
figure { margin: 0; border: 1px solid #dde2ea; border-radius: 6px; padding: .5em; }
figure img { width: 128px; image-rendering: pixelated; border-radius: 3px; }
figcaption { font-size: .85em; color: #4a5568; } .p { color: #b3261e; font-weight: 600; } p.note { color: #4a5568; }
td:first-child, th:first-child { text-align: left; }
"""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], chosen: int = -1) -> str:
    """A table as HTML; `chosen` is the row that stands out."""
    lines = ["<table><tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"]
    for number, row in enumerate(rows):
        mark = ' class="chosen"' if number == chosen else ""
        lines.append(f"<tr{mark}>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>")
    return "\n".join([*lines, "</table>"])
