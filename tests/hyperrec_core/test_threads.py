"""A crew does all parts of a job, each once; they can meet; what goes wrong in one is said."""

import gc
import threading
import time

import pytest

from hyperrec_core.kernels.meeting import DONE, HALFWAY, tell
from hyperrec_core.threads import Crew, wait_halfway


@pytest.mark.parametrize(("threads", "parts"), [(1, 1), (3, 3), (3, 2), (3, 1)])
def test_every_part_is_done_once_by_a_thread_of_its_own(threads, parts):
    crew, done = Crew(threads), []
    for _ in range(20):
        crew.run(lambda part, _: done.append((part, threading.get_ident())), parts=parts)
    assert sorted(part for part, _ in done) == sorted(list(range(parts)) * 20)
    assert len({thread for _, thread in done}) == parts


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_what_a_part_raises_is_raised_and_the_crew_goes_on(failing):
    crew, done = Crew(3), []

    def job(part, _):
        if part == failing:
            raise ValueError(part)
        done.append(part)

    with pytest.raises(ValueError, match=str(failing)):
        crew.run(job, parts=3)
    assert sorted(done) == sorted({0, 1, 2} - {failing})
    crew.run(lambda part, _: done.append(part), parts=3)
    assert len(done) == 5


@pytest.mark.parametrize("slow", [0, 1, 2])
def test_who_waits_halfway_goes_on_when_all_are_there(slow):
    crew, done = Crew(3), []

    def job(part, meeting):
        if part == slow:
            time.sleep(0.05)
        done.append(("first", part))
        tell(meeting, HALFWAY, part)
        wait_halfway(meeting, part)
        done.append(("second", part))

    for _ in range(3):
        done.clear()
        crew.run(job, parts=3)
        assert {name for name, _ in done[:3]} == {"first"}
        assert sorted(done[3:]) == [("second", part) for part in range(3)]


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_nobody_goes_on_after_one_that_failed(failing):
    crew, done = Crew(3), []

    def job(part, meeting):
        if part == failing:
            raise ValueError(part)
        tell(meeting, HALFWAY, part)
        wait_halfway(meeting, part)
        done.append(part)

    for _ in range(3):
        with pytest.raises(ValueError, match=str(failing)):
            crew.run(job, parts=3)
    crew.run(lambda part, _: None, parts=3)
    assert not done


def test_a_part_that_has_told_is_not_waited_for():
    crew, more, late = Crew(2), threading.Event(), []

    def job(part, meeting):
        if part == 1:
            tell(meeting, DONE, part)
            late.append(more.wait(5))

    crew.run(job, parts=2)
    assert not late
    more.set()
    crew.run(lambda part, _: None, parts=2)
    assert late == [True]


def test_the_threads_end_with_the_crew():
    crew, mine = Crew(4), set()
    crew.run(lambda part, _: mine.add(threading.current_thread()), parts=4)
    mine.remove(threading.current_thread())
    assert len(mine) == 3
    del crew
    gc.collect()
    for thread in mine:
        thread.join(timeout=5)
    assert not any(thread.is_alive() for thread in mine)
