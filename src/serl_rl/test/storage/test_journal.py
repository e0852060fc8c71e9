# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serl_rl.storage.chunk import TransitionSpec
from serl_rl.storage.journal import Journal, JournalError, JournalLost, Position, Record, read_journal, salvage
from serl_rl.storage.segment import create, read_header, scan
from serl_rl.storage.spec_header import with_spec

SPEC = TransitionSpec({"state": ((2,), "float32")}, 1)


def record(number: int, size: int = 40) -> Record:
    return Record("actor", "session", number, 1, bytes([number % 251]) * size)


def contents(path: Path) -> list[tuple[int, bytes]]:
    return [(entry.first_sequence, bytes(entry.data)) for _, entry in read_journal(path, SPEC)]


def write(path: Path, count: int, size: int = 40, **options: int) -> list[tuple[int, bytes]]:
    with Journal(path, SPEC, sync_interval=None, **options) as journal:
        for number in range(count):
            journal.append(record(number, size))
    return [(number, record(number, size).data) for number in range(count)]


@given(records=st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20), st.integers(0, 2**63), st.binary())))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_records_come_back_in_order(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("journal")
    sent = [Record(actor, session, first, len(data), data) for actor, session, first, data in records]
    with Journal(path, SPEC, sync_interval=None, segment_bytes=500) as journal:
        places = [journal.append(entry) for entry in sent]
        found = list(journal.replay())
    assert places == sorted(set(places))
    assert [position for position, _ in found] == places
    assert [replace(entry, data=bytes(entry.data)) for _, entry in found] == sent


def test_opening_again_goes_on_behind_the_last_record(tmp_path):
    expected = write(tmp_path, 5, segment_bytes=200)
    with Journal(tmp_path, SPEC, sync_interval=None) as journal:
        assert journal.position == max(position for position, _ in journal.replay())
        journal.append(record(5))
    assert contents(tmp_path) == [*expected, (5, record(5).data)]


def test_segments_of_limited_size_are_begun(tmp_path):
    expected = write(tmp_path, 20, segment_bytes=300)
    assert len(list(tmp_path.glob("*.segment"))) > 3
    assert contents(tmp_path) == expected


def test_a_cut_anywhere_loses_only_the_last_record(tmp_path, caplog):
    expected = write(tmp_path / "whole", 3)
    whole = (tmp_path / "whole/00000000.segment").read_bytes()
    ends = [position.offset for position, _ in read_journal(tmp_path / "whole", SPEC)]
    for length in range(ends[1] + 1, len(whole)):
        path = tmp_path / f"cut{length}"
        path.mkdir()
        (path / "00000000.segment").write_bytes(whole[:length])
        caplog.clear()
        with Journal(path, SPEC, sync_interval=None) as journal:
            assert f"dropped {length - ends[1]} bytes" in caplog.text
            journal.append(record(7))
        assert contents(path) == [*expected[:2], (7, record(7).data)]


@pytest.mark.parametrize("from_page", [True, False])
def test_zeros_in_place_of_records_are_damage_and_are_kept(tmp_path, from_page):
    expected = write(tmp_path, 10, size=1000)
    segment = tmp_path / "00000000.segment"
    whole = segment.read_bytes()
    kept = 4096 * 2 if from_page else next(iter(read_journal(tmp_path, SPEC)))[0].offset
    damaged = whole[:kept] + bytes(len(whole) - kept)
    segment.write_bytes(damaged)
    readable = 7 if from_page else 1
    with pytest.raises(JournalError, match=rf"{readable} records \(\d+ bytes\) can be read before it, 0 records"):
        Journal(tmp_path, SPEC, sync_interval=None)
    assert segment.read_bytes() == damaged
    found = list(salvage(tmp_path))
    assert [(each.record.first_sequence, bytes(each.record.data)) for each in found] == expected[:readable]
    assert all(each.unbroken for each in found)


@pytest.mark.parametrize("place", [2000, 12_000, 9, -1, -5000])
def test_one_flipped_bit_erases_nothing_although_zeros_end_the_file(tmp_path, place):
    with Journal(tmp_path, SPEC, sync_interval=None) as journal:
        for number in range(3):
            journal.append(Record("actor", "session", 600 * number, 600, b"x" * 3000 + bytes(4800)))
    segment = tmp_path / "00000000.segment"
    damaged = bytearray(segment.read_bytes())
    damaged[place] ^= 1
    segment.write_bytes(damaged)
    found = "nothing was changed" if place == 9 else "the 1200 transitions of the journal that can be read"
    with pytest.raises(JournalError, match=found):
        Journal(tmp_path, SPEC, sync_interval=None)
    assert segment.read_bytes() == damaged
    assert sum(each.record.count for each in salvage(tmp_path)) == (0 if place == 9 else 1200)


def test_a_changed_byte_anywhere_is_refused_and_nothing_is_touched(tmp_path):
    write(tmp_path, 3)
    segment = tmp_path / "00000000.segment"
    whole = segment.read_bytes()
    for place in range(len(whole)):
        damaged = whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :]
        segment.write_bytes(damaged)
        with pytest.raises(JournalError, match=r"segment"):
            Journal(tmp_path, SPEC, sync_interval=None)
        assert segment.read_bytes() == damaged


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_what_is_readable_around_damage_comes_back_as_a_journal_without_gaps(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("journal")
    size = data.draw(st.integers(0, 300))
    stored = [number for number, _ in write(path, 12, size=size, segment_bytes=data.draw(st.integers(400, 5000)))]
    whole = [position for position, _ in read_journal(path, SPEC)]
    victim = data.draw(st.sampled_from(sorted(path.glob("*.segment"))))
    content = bytearray(victim.read_bytes())
    start = data.draw(st.integers(read_header(victim, "journal").end, len(content)))
    length = data.draw(st.integers(0, min(200, len(content) - start)))
    content[start : start + length] = data.draw(st.binary(min_size=length, max_size=length))
    victim.write_bytes(content)
    expected: dict[str, int] = {}
    numbers = []
    for position, entry, unbroken in salvage(path):
        assert unbroken == (numbers == list(range(len(numbers))) and entry.session_id == "session")
        assert whole[len(numbers) if unbroken else -1] >= position
        assert entry.first_sequence == expected.setdefault(entry.session_id, 0)
        expected[entry.session_id] += entry.count
        numbers.append(int(entry.session_id.partition("+")[2] or 0) + entry.first_sequence)
        assert bytes(entry.data) == record(numbers[-1], size).data
    assert numbers == sorted(set(numbers))
    assert len(stored) - len(numbers) <= length / (size + 30) + 2
    assert len(expected) <= 2


def test_damage_in_an_earlier_segment_is_found_by_replaying(tmp_path):
    write(tmp_path, 20, segment_bytes=300)
    earlier = tmp_path / "00000001.segment"
    earlier.write_bytes(earlier.read_bytes()[:-5])
    with Journal(tmp_path, SPEC, sync_interval=None) as journal, pytest.raises(JournalError, match="00000001"):
        list(journal.replay())


def test_a_missing_segment_is_noticed(tmp_path):
    write(tmp_path, 20, segment_bytes=300)
    (tmp_path / "00000001.segment").unlink()
    with pytest.raises(JournalError, match=r"00000001\.segment is missing"):
        Journal(tmp_path, SPEC)


@pytest.mark.parametrize("what", ["exchanged", "of another journal", "shorter", "empty"])
def test_segments_that_do_not_belong_in_their_place_are_noticed(tmp_path, what):
    for name in ("ours", "other"):
        write(tmp_path / name, 20, segment_bytes=500)
    first, second = (tmp_path / f"ours/0000000{number}.segment" for number in (1, 2))
    one, two = first.read_bytes(), second.read_bytes()
    if what == "exchanged":
        first.write_bytes(two)
        second.write_bytes(one)
    elif what == "of another journal":
        second.write_bytes((tmp_path / "other/00000002.segment").read_bytes())
    else:
        ends = [end for end, _ in scan(first, "journal")]
        first.write_bytes(one[: ends[-2] if what == "shorter" else read_header(first, "journal").end])
    with pytest.raises(
        JournalError, match=r"segment: (index|journal|previous_end): expected .*, found .*restore a copy"
    ):
        contents(tmp_path / "ours")


def test_a_journal_from_before_segments_named_their_journal_goes_on(tmp_path):
    create(tmp_path / "00000000.segment", "journal", with_spec(SPEC))
    expected = write(tmp_path, 8, segment_bytes=250)
    assert len(list(tmp_path.glob("*.segment"))) > 2
    assert contents(tmp_path) == expected
    with Journal(tmp_path, SPEC, sync_interval=None) as journal:
        assert journal.id == ""


def remove(path: Path) -> None:
    shutil.rmtree(path)


def move(path: Path) -> None:
    path.rename(path.with_name("moved"))


def swap(path: Path) -> None:
    move(path)
    write(path, 1)


def delete_segment(path: Path) -> None:
    (path / "00000000.segment").unlink()


def replace_segment(path: Path) -> None:
    segment = path / "00000000.segment"
    segment.with_name("copy").write_bytes(segment.read_bytes())
    segment.with_name("copy").replace(segment)


def cut_segment(path: Path) -> None:
    os.truncate(path / "00000000.segment", 300)


def lengthen_segment(path: Path) -> None:
    with (path / "00000000.segment").open("ab") as file:
        file.write(b"mine")


HARMS = [remove, move, swap, delete_segment, replace_segment, cut_segment, lengthen_segment]


@pytest.mark.parametrize("harm", HARMS, ids=lambda function: function.__name__)
def test_nothing_is_acknowledged_into_a_journal_that_is_no_longer_there(tmp_path, harm):
    path = tmp_path / "journal"
    with Journal(path, SPEC, sync_interval=None) as journal:
        for number in range(5):
            journal.append(record(number))
        harm(path)
        for _ in range(2):
            with pytest.raises(JournalLost, match=str(path)):
                journal.append(record(5))
        with pytest.raises(JournalLost):
            journal.check()


def test_a_segment_that_is_taken_away_behind_us_is_noticed_before_a_checkpoint(tmp_path):
    with Journal(tmp_path, SPEC, sync_interval=None, segment_bytes=300) as journal:
        for number in range(10):
            journal.append(record(number))
        (tmp_path / "00000001.segment").unlink()
        with pytest.raises(JournalLost, match=r"00000001\.segment: is gone"):
            journal.check()


def test_the_lock_holds_although_its_file_is_deleted(tmp_path):
    with Journal(tmp_path, SPEC):
        (tmp_path / "lock").unlink()
        with pytest.raises(JournalError, match="another learner"):
            Journal(tmp_path, SPEC)


@pytest.mark.parametrize("kind", ["FIFO", "link", "directory"])
def test_what_lies_in_place_of_the_lock_file_is_neither_waited_for_nor_written_through(tmp_path, kind):
    path = tmp_path / "journal"
    expected = write(path, 2)
    (path / "lock").unlink()
    precious = tmp_path / "precious"
    precious.write_text("mine")
    {"FIFO": os.mkfifo, "link": lambda lock: lock.symlink_to(precious), "directory": os.mkdir}[kind](path / "lock")
    with Journal(path, SPEC), pytest.raises(JournalError, match="another learner"):
        Journal(path, SPEC)
    assert contents(path) == expected
    assert precious.read_text() == "mine"


@pytest.mark.parametrize("content", [b"", b"something else entirely", b"SERLSEG1", b"\0" * 500])
def test_a_foreign_file_is_refused_and_untouched(tmp_path, content):
    segment = tmp_path / "00000000.segment"
    segment.write_bytes(content)
    with pytest.raises(JournalError, match=r"expected a journal file|damaged"):
        Journal(tmp_path, SPEC)
    assert segment.read_bytes() == content


def test_the_journal_of_another_task_is_refused(tmp_path):
    write(tmp_path, 3)
    with pytest.raises(JournalError, match="another task"):
        Journal(tmp_path, TransitionSpec({"state": ((3,), "float32")}, 1))


def test_a_path_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(JournalError, match="directory"):
        Journal(tmp_path / "file", SPEC)


def test_a_second_writer_is_refused_until_the_first_closes(tmp_path):
    with Journal(tmp_path, SPEC), pytest.raises(JournalError, match=f"another learner .process {os.getpid()}."):
        Journal(tmp_path, SPEC)
    Journal(tmp_path, SPEC).close()


def test_a_refused_journal_is_not_left_locked(tmp_path):
    (tmp_path / "00000000.segment").write_bytes(b"foreign")
    with pytest.raises(JournalError, match="expected a journal"):
        Journal(tmp_path, SPEC)
    (tmp_path / "00000000.segment").unlink()
    Journal(tmp_path, SPEC).close()


@pytest.fixture
def disk_of():
    """Limit how far files may grow, which to a writer looks like a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def limit(size: int | None) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before[0] if size is None else size, before[1]))

    yield limit
    limit(None)
    signal.signal(signal.SIGXFSZ, ignored)


def test_a_full_disk_refuses_the_record_and_harms_nothing(tmp_path, disk_of):
    with Journal(tmp_path, SPEC, sync_interval=None) as journal:
        for number in range(3):
            journal.append(record(number))
        before = journal.position
        disk_of(before.offset + 50)  # the record begins to be written, and does not fit
        for _ in range(2):
            with pytest.raises(JournalError, match="nothing was lost"):
                journal.append(record(3, size=5000))
        assert journal.position == before
        assert (tmp_path / "00000000.segment").stat().st_size == before.offset
        disk_of(None)
        journal.append(record(4))
    assert [number for number, _ in contents(tmp_path)] == [0, 1, 2, 4]


def test_a_full_disk_at_a_new_segment_harms_nothing(tmp_path, disk_of):
    with Journal(tmp_path, SPEC, sync_interval=None, segment_bytes=100) as journal:
        journal.append(record(0))
        disk_of(10)
        with pytest.raises(JournalError, match="cannot create"):
            journal.append(record(1))
        disk_of(None)
        journal.append(record(2))
    assert [number for number, _ in contents(tmp_path)] == [0, 2]
    assert not list(tmp_path.glob("*.tmp"))


WRITER = """
import sys
from pathlib import Path
from serl_rl.storage.chunk import TransitionSpec
from serl_rl.storage.journal import Journal, Record
spec = TransitionSpec({"state": ((2,), "float32")}, 1)
journal = Journal(Path(sys.argv[1]), spec, sync_interval=0.01, segment_bytes=20_000)
number = sum(1 for _ in journal.replay())
while True:
    journal.append(Record("actor", "session", number, 1, bytes([number % 251]) * 2000))
    number += 1
    print(number, flush=True)
"""


def test_a_killed_writer_loses_nothing_it_acknowledged(tmp_path):
    acknowledged = 0
    for round_number in range(4):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        for _ in range(50 + 37 * round_number):
            acknowledged = int(writer.stdout.readline())
        writer.kill()
        rest = writer.communicate()[0].split("\n")
        acknowledged = max([acknowledged, *(int(line) for line in rest[:-1])])
        with Journal(tmp_path, SPEC, sync_interval=None) as journal:
            found = [(entry.first_sequence, bytes(entry.data)) for _, entry in journal.replay()]
        assert len(found) >= acknowledged
        assert found == [(number, bytes([number % 251]) * 2000) for number in range(len(found))]


def test_appending_goes_on_while_the_disk_is_synchronised(tmp_path):
    with Journal(tmp_path, SPEC, sync_interval=0.001, segment_bytes=5000) as journal:
        end = time.monotonic() + 0.3
        number = 0
        while time.monotonic() < end:
            journal.append(record(number))
            number += 1
    assert [first for first, _ in contents(tmp_path)] == list(range(number))


def test_positions_order_records_over_segments():
    assert Position(0, 900) < Position(1, 10) < Position(1, 11)
