# SPDX-License-Identifier: Apache-2.0
"""Journals and demonstrations alike: what the header says of their transitions is what the reader has to expect."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from serl_rl.spec import TransitionSpec
from serl_rl.storage.demonstrations import read_demonstrations
from serl_rl.storage.journal import Journal, journal_spec, read_journal
from serl_rl.storage.segment import SegmentError, create, read_header
from serl_rl.storage.spec_header import read_spec_header, with_spec

SPEC = TransitionSpec({"state": ((2,), "float32")}, 1, meaning={"state": [{"name": "x", "scale": 0.1}]})
NAME = "00000000.segment"


def open_journal(folder: Path, spec: TransitionSpec) -> Iterable[object]:
    with Journal(folder, spec, sync_interval=None):
        return ()


READERS: dict[str, tuple[str, Callable[[Path, TransitionSpec], Iterable[object]]]] = {
    "journal": ("journal", read_journal),
    "journal that goes on": ("journal", open_journal),
    "demonstrations": ("demonstrations", lambda folder, spec: read_demonstrations(folder / NAME, spec)),
}


@pytest.mark.parametrize("reader", READERS)
def test_transitions_of_another_task_are_refused(tmp_path: Path, reader: str) -> None:
    kind, read = READERS[reader]
    create(tmp_path / NAME, kind, with_spec(SPEC))
    assert read_spec_header(tmp_path / NAME, kind).spec == SPEC
    others = {
        "action: 1 components": replace(SPEC, action_dim=2),
        r"state\[0\].scale \(x\): expected 0.2, found 0.1": replace(
            SPEC, meaning={"state": [{"name": "x", "scale": 0.2}]}
        ),
    }
    for difference, other in others.items():
        with pytest.raises(SegmentError, match=f"{NAME}: .*{difference}.*; it was made for another task"):
            list(read(tmp_path, other))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("known", [True, False])
def test_where_nobody_said_what_the_numbers_mean_there_is_a_warning(
    tmp_path: Path, reader: str, known: bool, caplog: pytest.LogCaptureFixture
) -> None:
    kind, read = READERS[reader]
    create(tmp_path / NAME, kind, with_spec(SPEC if known else replace(SPEC, meaning={})))
    list(read(tmp_path, SPEC))
    assert ("was made before files said what their numbers mean" in caplog.text) == (not known)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("about", [{}, {"spec": 1}, {"spec": {"observation": {}, "action_dim": 1}}])
def test_a_header_without_a_specification_is_refused(tmp_path: Path, reader: str, about: dict[str, object]) -> None:
    kind, read = READERS[reader]
    create(tmp_path / NAME, kind, about)
    with pytest.raises(SegmentError, match=f"{NAME}: expected a header with kind and spec, found"):
        list(read(tmp_path, SPEC))
    if kind == "journal":
        with pytest.raises(SegmentError, match="expected a header with kind and spec"):
            journal_spec(tmp_path)


def test_what_else_a_header_says_stands_beside_the_specification(tmp_path: Path) -> None:
    create(tmp_path / NAME, "journal", with_spec(SPEC, {"index": 3}))
    header = read_spec_header(tmp_path / NAME, "journal")
    assert (header.spec, header.about) == (SPEC, {"index": 3})
    assert header.end == read_header(tmp_path / NAME, "journal").end == (tmp_path / NAME).stat().st_size


def test_a_header_that_nobody_could_read_again_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "a.serl"
    with pytest.raises(SegmentError, match=r"a\.serl: expected a header of at most 65536 bytes, found 7\d+"):
        create(path, "transitions", {"note": "x" * 70_000})
    assert not path.exists()
    create(path, "transitions", {"note": "x" * 65_000})
    assert read_header(path, "transitions").about["note"] == "x" * 65_000
