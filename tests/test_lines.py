"""Append-only files: every bit back, torn tails cut, damage named, one writer, and nothing lost on a full disk."""

from __future__ import annotations

import fcntl
import json
import math
import os
import resource
import signal
import struct
import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evomerge.errors import JournalError
from evomerge.lines import AppendOnly, read_lines, write_whole

FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "journal.jsonl"


def opened(path, **settings):
    file = AppendOnly(path, **settings)
    file.close()
    return file


def in_a_child(work):
    """Exit status of `work()` in a forked process; 99 if it raised."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(work() or 0)
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# ---------------------------------------------------------------- bits


@given(values=st.lists(FLOATS, max_size=20))
@example(values=[5e-324, -5e-324, -0.0, 0.0, 1.7976931348623157e308, 2.2250738585072014e-308, 0.1 + 0.2, 1 / 3])
def test_every_float_comes_back_bit_for_bit(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("bits") / "a.jsonl"
    file = AppendOnly(path)
    file.append({"values": values}, sync=False)
    file.close()
    (row,), _ = read_lines(path)
    assert [struct.pack("<d", v) for v in row["values"]] == [struct.pack("<d", v) for v in values]


@settings(max_examples=50)
@given(text=st.text(st.characters(codec="utf-8")))
@example(text='line\nbreak\r\x85\u2028\u2029\x00 "quoted" ünï 🧬')
def test_every_text_is_one_line_and_comes_back(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("text") / "a.jsonl"
    file = AppendOnly(path)
    for _ in range(2):
        file.append({"text": text}, sync=False)
    file.close()
    assert path.read_bytes().count(b"\n") == 2
    assert read_lines(path)[0] == [{"text": text}] * 2


def test_rows_on_file_are_there_when_it_is_opened_again(path):
    file = AppendOnly(path)
    assert file.rows == []
    file.append({"a": 1})
    file.append({"b": [2, None]})
    file.close()
    assert opened(path).rows == [{"a": 1}, {"b": [2, None]}]
    assert path.read_text() == '{"a":1}\n{"b":[2,null]}\n'


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_say_is_refused_and_leaves_the_file_alone(path, bad):
    file = AppendOnly(path)
    file.append({"a": 1})
    with pytest.raises(ValueError):
        file.append({"deep": [{"value": bad}]})
    file.append({"b": 2})
    file.close()
    assert read_lines(path)[0] == [{"a": 1}, {"b": 2}]


# ---------------------------------------------------------------- torn and damaged


def test_a_torn_tail_of_any_length_is_cut_off_and_appending_goes_on(path):
    path.parent.mkdir()
    whole, last = b'{"a":1}\n', b'{"text":"a line of some length"}\n'
    for keep in range(len(last)):
        path.write_bytes(whole + last[:keep])
        file = AppendOnly(path)
        assert file.rows == [{"a": 1}]
        assert path.read_bytes() == whole
        file.append({"b": 2})
        file.close()
        assert path.read_bytes() == whole + b'{"b":2}\n'


def test_a_tail_of_zeros_as_power_loss_leaves_it_is_cut_off(path):
    path.parent.mkdir()
    path.write_bytes(b'{"a":1}\n' + bytes(4096))
    assert opened(path).rows == [{"a": 1}]
    assert path.read_bytes() == b'{"a":1}\n'


@pytest.mark.parametrize("damage", [b'{"a":', b"", b"\x00\x00\x00", b"\xff\xfe{", b'{"a":1}{"b":2}', b"nonsense"])
def test_damage_in_the_middle_is_refused_with_its_line_and_left_as_it_is(path, damage):
    path.parent.mkdir()
    bytes_ = b'{"a":1}\n{"b":2}\n' + damage + b'\n{"c":3}\n'
    path.write_bytes(bytes_)
    with pytest.raises(
        JournalError, match=r"journal.jsonl is damaged at line 3 .*Restore it from a copy, or start anew"
    ):
        AppendOnly(path)
    assert path.read_bytes() == bytes_


def test_a_line_that_is_no_object_is_damage(path):
    path.parent.mkdir()
    path.write_bytes(b'{"a":1}\n[1,2]\n')
    with pytest.raises(JournalError, match="damaged at line 2: wanted an object, got list"):
        AppendOnly(path)


def test_a_damaged_file_is_not_kept_locked(path):
    path.parent.mkdir()
    path.write_bytes(b"nonsense\n")
    with pytest.raises(JournalError, match="damaged at line 1"):
        AppendOnly(path, lock=True)
    path.write_bytes(b'{"a":1}\n')
    assert opened(path, lock=True).rows == [{"a": 1}]


# ---------------------------------------------------------------- one writer


def test_a_second_writer_is_refused_at_once_and_told_who_writes(path):
    file = AppendOnly(path, lock=True)
    program = (
        "import sys; from pathlib import Path\n"
        "from evomerge.lines import AppendOnly; from evomerge.errors import JournalError\n"
        "try: AppendOnly(Path(sys.argv[1]), lock=True)\n"
        "except JournalError as e: print(e)"
    )
    second = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=30)
    file.close()
    assert f'"pid": {os.getpid()}' in second.stdout, second.stderr
    assert f"{path.parent} is being written by" in second.stdout
    assert "choose another run=DIR" in second.stdout


def test_a_second_writer_in_the_same_process_is_refused_and_the_first_goes_on(path):
    file = AppendOnly(path, lock=True)
    with pytest.raises(JournalError, match="is being written by"):
        AppendOnly(path, lock=True)
    file.append({"a": 1})
    file.close()
    assert opened(path, lock=True).rows == [{"a": 1}]


def test_the_lock_ends_with_its_process_however_it_dies(path):
    def die():
        AppendOnly(path, lock=True).append({"a": 1})
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_a_child(die) == -signal.SIGKILL
    assert opened(path, lock=True).rows == [{"a": 1}]


def test_a_refused_writer_changes_nothing(path):
    file = AppendOnly(path, lock=True)
    file.append({"a": 1})
    with open(path, "ab") as torn:  # a line that the first writer is just writing
        torn.write(b'{"b":')
        torn.flush()
        before = path.read_bytes(), (path.parent / "writer.json").read_bytes()
        with pytest.raises(JournalError):
            AppendOnly(path, lock=True)
        assert (path.read_bytes(), (path.parent / "writer.json").read_bytes()) == before
    file.close()


def test_closing_twice_does_not_close_another_file(path):
    file = AppendOnly(path)
    file.close()
    with open(path, "rb") as other:
        file.close()
        assert other.read() == b""


def test_reading_needs_no_lock(path):
    file = AppendOnly(path, lock=True)
    file.append({"a": 1})
    assert read_lines(path)[0] == [{"a": 1}]
    file.close()


# ---------------------------------------------------------------- disks that refuse


def test_a_folder_that_cannot_be_made_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match=r"cannot write .*journal.jsonl: .*Choose a writable folder with run=DIR"):
        AppendOnly(tmp_path / "file" / "run" / "journal.jsonl")


def test_a_folder_in_place_of_the_file_is_refused(path):
    path.mkdir(parents=True)
    with pytest.raises(JournalError, match=r"cannot write .*: Is a directory"):
        AppendOnly(path)


def test_a_read_only_folder_is_refused(path):
    path.parent.mkdir(mode=0o500)

    def write():
        if os.geteuid() == 0:
            os.seteuid(65534)  # root may write everywhere: be nobody
        try:
            AppendOnly(path)
        except JournalError as e:
            return 0 if "Permission denied. Choose a writable folder" in str(e) else 2
        return 1

    assert in_a_child(write) == 0


@pytest.mark.parametrize("room", [0, 1, 10, 39])
def test_a_line_that_finds_no_room_is_undone_and_the_next_that_does_is_whole(path, room):
    """A real full disk, as the kernel plays it: os.write returns short, then fails (RLIMIT_FSIZE)."""

    def fill():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        file = AppendOnly(path)
        file.append({"a": 1})
        good = path.read_bytes()
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(good) + room, resource.RLIM_INFINITY))
        for _ in range(2):
            try:
                file.append({"text": "x" * 40})
                return 1
            except JournalError as e:
                if "make room and run the same command again" not in str(e):
                    return 2
            if path.read_bytes() != good:
                return 3
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        file.append({"b": 2})
        return 0 if path.read_bytes() == good + b'{"b":2}\n' else 4

    assert in_a_child(fill) == 0
    assert opened(path).rows == [{"a": 1}, {"b": 2}]


def test_a_line_that_fits_to_the_last_byte_is_kept(path):
    def fill():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        file = AppendOnly(path)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8, resource.RLIM_INFINITY))
        file.append({"a": 1})
        return 0

    assert in_a_child(fill) == 0
    assert path.read_bytes() == b'{"a":1}\n'


def test_a_write_that_is_interrupted_leaves_no_part_of_its_line(path, monkeypatch):
    file = AppendOnly(path)
    file.append({"a": 1})
    write = os.write

    def half(fd, data):
        if len(data) < 10:
            return write(fd, data)
        write(fd, data[:7])
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(KeyboardInterrupt):
        file.append({"text": "a line of some length"})
    file.append({"b": 2})
    file.close()
    assert read_lines(path)[0] == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize("step", ["written", "synced"])
def test_an_interrupt_after_the_line_is_written_keeps_what_was_paid(path, step):
    def watch(name):
        if name == step:
            raise KeyboardInterrupt

    file = AppendOnly(path, watch=watch)
    with pytest.raises(KeyboardInterrupt):
        file.append({"paid": 1})
    file.close()
    assert opened(path).rows == [{"paid": 1}]


def test_a_line_written_in_small_pieces_is_whole(path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))
    file = AppendOnly(path)
    file.append({"text": "a line of some length"})
    file.append({"b": 2})
    file.close()
    assert read_lines(path)[0] == [{"text": "a line of some length"}, {"b": 2}]


def test_a_failing_fsync_undoes_the_line(path, monkeypatch):
    file = AppendOnly(path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        with pytest.raises(JournalError, match=r"cannot append to .*: Input/output error"):
            file.append({"a": 1})
    file.append({"b": 2})
    file.close()
    assert read_lines(path)[0] == [{"b": 2}]


# ---------------------------------------------------------------- order of steps


def test_a_line_is_on_disk_before_its_end_is_told(path, monkeypatch):
    steps = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: steps.append("fsync") or fsync(fd))
    file = AppendOnly(path, watch=lambda step: steps.append((step, path.stat().st_size)))
    steps.clear()
    file.append({"a": 1})
    assert steps == [("write", 0), ("written", 8), "fsync", ("synced", 8)]
    steps.clear()
    file.append({"a": 1}, sync=False)
    assert steps == [("write", 8), ("written", 16)]
    file.close()


def test_a_new_file_is_made_durable_by_its_folder(path, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")) or fsync(fd))
    opened(path)
    assert synced == [str(path.parent)]


# ---------------------------------------------------------------- small files


def test_a_file_is_replaced_whole_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "writer.json"
    write_whole(path, "old")
    write_whole(path, "new")
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["writer.json"]


def test_a_reader_of_the_old_file_keeps_it(tmp_path):
    path = tmp_path / "a"
    write_whole(path, "old")
    with open(path) as reader:
        write_whole(path, "new and longer")
        assert reader.read() == "old"


def test_a_file_that_cannot_be_replaced_is_an_error_with_what_to_do(tmp_path):
    with pytest.raises(JournalError, match=r"cannot write .*Make room or choose a writable folder"):
        write_whole(tmp_path / "missing" / "a", "text")


def test_the_name_of_the_writer_is_readable_json(path):
    opened(path, lock=True)
    assert json.loads((path.parent / "writer.json").read_text())["pid"] == os.getpid()


def test_the_lock_is_the_kernels_own(path):
    file = AppendOnly(path, lock=True)
    with open(path) as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    file.close()
