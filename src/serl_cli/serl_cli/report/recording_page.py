# SPDX-License-Identifier: Apache-2.0
"""One self-contained page about a recording: what it holds, what is wrong with it, and its figure."""

import base64
from collections.abc import Sequence
from html import escape

from serl_config.text import printable

from serl_cli.report.page import STYLE, table


def render(name: str, rows: Sequence[tuple[str, str]], found: Sequence[str], figure: bytes) -> str:
    """The page, as HTML that needs no other file.

    Args:
        name: of the recording.
        rows: what it holds, each with a name.
        found: what is wrong with it.
        figure: PNG.
    """
    title = escape(printable(name))
    words = [(row, printable(text)) for row, text in rows]
    wrong = "".join(f"<li>{escape(line)}</li>" for line in found)
    source = base64.b64encode(figure).decode()
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>{STYLE}</style></head><body>
<h1>{title}</h1>
{table(("", ""), words)}
<h2>{"What is wrong" if found else "Nothing is wrong with it, as far as can be told"}</h2>
<ul class="p">{wrong}</ul>
<img src="data:image/png;base64,{source}" alt="figures of {title}" style="max-width: 100%">
</body></html>
"""
