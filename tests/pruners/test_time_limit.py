"""A time limit: results and errors in time, lateness, and a process that may end."""

import contextvars
import subprocess
import sys
import threading

import pytest

from pruners.time_limit import within_time

HERE = contextvars.ContextVar("HERE", default=0)


def test_gives_what_the_call_gives_and_raises_what_it_raises():
    assert within_time(lambda: None, 20) is None
    assert within_time(lambda: 3, 20) == 3
    with pytest.raises(KeyError, match="why"):
        within_time(lambda: {}["why"], 20)


def test_a_late_call_is_an_error_and_ends_on_its_own():
    free, done = threading.Event(), threading.Event()

    def call():
        free.wait(30)
        done.set()

    with pytest.raises(TimeoutError, match=r"it took longer than 0\.01 s"):
        within_time(call, 0.01)
    free.set()
    assert done.wait(30)


def test_the_call_sees_the_callers_context():
    HERE.set(7)
    assert within_time(HERE.get, 20) == 7


def test_a_late_call_does_not_keep_the_process_alive():
    code = (
        "import time; from pruners.time_limit import within_time\n"
        "try: within_time(lambda: time.sleep(300), 0.01)\n"
        "except TimeoutError: print('late')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert (ended.stdout, ended.stderr) == ("late\n", "")
