"""An interrupt that Python drops is raised again; handlers are otherwise as they were."""

import gc
import signal
import threading

import pytest

from evomerge.interrupts import kept


class Dying:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
        for _ in range(1000):  # the handler runs between two steps of the interpreter
            pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_lost_in_a_destructor_is_raised_at_the_next_check():
    with kept() as check:
        check()
        dying = Dying()
        del dying  # Python prints and drops the exception
        gc.collect()
        with pytest.raises(KeyboardInterrupt):
            check()


def test_an_interrupt_is_raised_where_it_comes():
    with pytest.raises(KeyboardInterrupt), kept():
        signal.raise_signal(signal.SIGINT)


def test_who_ignores_ctrl_c_goes_on_ignoring_it():
    heard = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        with kept() as check:
            signal.raise_signal(signal.SIGINT)
            check()
        assert heard == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_handlers_are_put_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with kept():
        assert signal.getsignal(signal.SIGINT) is not before[0]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_another_thread_is_left_alone():
    failed = []

    def run():
        try:
            with kept() as check:
                check()
        except BaseException as e:
            failed.append(e)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert not failed
