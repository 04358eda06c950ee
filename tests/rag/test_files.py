"""Files: all of a write or nothing of it, and one writer to a folder."""

import os
import stat
import subprocess
import sys

import pytest

from rag.errors import FolderLockedError
from rag.files import FolderLock, write_atomically


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a.bin"
    write_atomically(path, lambda file: file.write(b"old and long"))
    write_atomically(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def write(file):
        file.write(b"half")
        raise error

    with pytest.raises(error):
        write_atomically(path, write)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_a_writer_that_fails_makes_no_file(tmp_path):
    with pytest.raises(ZeroDivisionError):
        write_atomically(tmp_path / "a.bin", lambda _: 1 / 0)
    assert names(tmp_path) == []


def test_the_old_file_is_there_while_the_new_one_is_written(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    seen = []

    def write(file):
        file.write(b"new")
        file.flush()
        seen.append(path.read_bytes())

    write_atomically(path, write)
    assert seen == [b"old"]


def test_permission_bits_are_the_owners_alone_unless_asked(tmp_path):
    private, public = tmp_path / "private", tmp_path / "public"
    public.write_bytes(b"")
    public.chmod(0o600)
    umask = os.umask(0)
    try:
        write_atomically(private, lambda file: file.write(b"x"))
        write_atomically(public, lambda file: file.write(b"x"), mode=0o644)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert stat.S_IMODE(public.stat().st_mode) == 0o644


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "nowhere" / "a.bin", lambda file: file.write(b"x"))


def test_a_second_holder_is_refused_and_told_who_holds(tmp_path):
    with FolderLock(tmp_path) as lock:
        assert lock.path.read_text().split() == [str(os.getpid())]
        with pytest.raises(FolderLockedError, match=rf"by process {os.getpid()};") as refused:
            FolderLock(tmp_path).acquire()
        assert str(tmp_path) in str(refused.value)
    FolderLock(tmp_path).acquire().release()


def test_a_lock_is_free_after_an_error_inside(tmp_path):
    with pytest.raises(ZeroDivisionError), FolderLock(tmp_path):
        _ = 1 / 0
    FolderLock(tmp_path).acquire().release()


def test_giving_back_twice_never_frees_the_next_holder(tmp_path):
    first = FolderLock(tmp_path).acquire()
    first.release()
    with FolderLock(tmp_path):
        first.release()
        with pytest.raises(FolderLockedError):
            FolderLock(tmp_path).acquire()


def test_a_refused_lock_can_be_released_and_tried_again(tmp_path):
    held, waiting = FolderLock(tmp_path).acquire(), FolderLock(tmp_path)
    with pytest.raises(FolderLockedError):
        waiting.acquire()
    waiting.release()
    held.release()
    waiting.acquire().release()


def test_the_system_frees_the_lock_of_a_process_that_dies(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from rag.files import FolderLock;"
        "FolderLock(Path(sys.argv[1])).acquire(); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(FolderLockedError, match=f"by process {other.pid};"):
            FolderLock(tmp_path).acquire()
        other.kill()
    FolderLock(tmp_path).acquire().release()
