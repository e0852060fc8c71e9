# SPDX-License-Identifier: Apache-2.0
"""What a doctor has found, as a page to keep or to send."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from serl_config.atomic_files import write_whole

from serl_cli.doctor.finding import Finding
from serl_launch import system


def write_report(path: Path, findings: Sequence[Finding]) -> None:
    """Write Markdown: when, with what, and a table of what was found.

    Raises:
        OSError: it cannot be written.
    """
    versions = ", ".join(f"{name} {version}" for name, version in system.versions().items())
    lines = [
        "# What ./serl doctor has found",
        "",
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {versions}",
        "",
        "| step | | found | to do |",
        "|---|---|---|---|",
    ]
    for each in findings:
        cells = (each.name, each.level.value, each.text, each.advice)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    write_whole(path, ("\n".join(lines) + "\n").encode())
