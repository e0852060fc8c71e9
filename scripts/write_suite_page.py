# SPDX-License-Identifier: Apache-2.0
"""Puts the table and the figure of a suite into docs/suite.md: ``python scripts/write_suite_page.py runs/suite-full``.

With a second word, as ``runs/suite-metaworld metaworld``, into the page of that name. The numbers of these pages come
from here and from nowhere else.
"""

import shutil
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"
BEGIN, END = "<!-- written by scripts/write_suite_page.py -->", "<!-- end -->"


def with_table(page: str, table: str) -> str:
    """The page with this table in place of what stands between its marks.

    Raises:
        ValueError: it does not have each mark once, in order.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(END) < page.index(BEGIN):
        raise ValueError(f"expected a page with {BEGIN!r} and behind it {END!r}, once each")
    return page[: page.index(BEGIN) + len(BEGIN)] + f"\n{table.strip()}\n" + page[page.index(END) :]


def main(suite: Path, name: str = "suite") -> None:
    """Writes the page `name` and its picture."""
    page = DOCS / f"{name}.md"
    table = (suite / "table.md").read_text(encoding="utf-8")
    page.write_text(with_table(page.read_text(encoding="utf-8"), table), encoding="utf-8")
    shutil.copyfile(suite / "success.png", DOCS / "images" / f"{name}.png")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(
            "write_suite_page.py: expected the folder of a suite, as ./serl bench suite --out makes it, and a page"
        )
    main(Path(sys.argv[1]), *sys.argv[2:])
