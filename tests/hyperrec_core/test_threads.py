"""A crew does all parts of a job, each once, and says what went wrong in any of them."""

import gc
import threading
import time

import pytest

from hyperrec_core.threads import Crew


@pytest.mark.parametrize(("threads", "parts"), [(1, 1), (3, 3), (3, 2), (3, 1)])
def test_every_part_is_done_once_by_a_thread_of_its_own(threads, parts):
    crew, done = Crew(threads), []
    for _ in range(20):
        crew.run(lambda part: done.append((part, threading.get_ident())), parts=parts)
    assert sorted(part for part, _ in done) == sorted(list(range(parts)) * 20)
    assert len({thread for _, thread in done}) == parts


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_what_a_part_raises_is_raised_and_the_crew_goes_on(failing):
    crew, done = Crew(3), []

    def job(part):
        if part == failing:
            raise ValueError(part)
        done.append(part)

    with pytest.raises(ValueError, match=str(failing)):
        crew.run(job, parts=3)
    assert sorted(done) == sorted({0, 1, 2} - {failing})
    crew.run(done.append, parts=3)
    assert len(done) == 5


@pytest.mark.parametrize("slow", [0, 1, 2])
def test_a_job_begins_when_all_parts_of_the_one_before_are_done(slow):
    crew, done = Crew(3), []

    def first(part):
        if part == slow:
            time.sleep(0.05)
        done.append(("first", part))

    for _ in range(3):
        done.clear()
        crew.run(first, lambda part: done.append(("second", part)), parts=3)
        assert {name for name, _ in done[:3]} == {"first"}
        assert sorted(done[3:]) == [("second", part) for part in range(3)]


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_no_job_begins_after_one_that_failed(failing):
    crew, done = Crew(3), []

    def job(part):
        if part == failing:
            raise ValueError(part)

    with pytest.raises(ValueError, match=str(failing)):
        crew.run(job, done.append, parts=3)
    crew.run(lambda part: None, parts=3)
    assert not done


def test_the_threads_end_with_the_crew():
    crew, mine = Crew(4), set()
    crew.run(lambda part: mine.add(threading.current_thread()), parts=4)
    mine.remove(threading.current_thread())
    assert len(mine) == 3
    del crew
    gc.collect()
    for thread in mine:
        thread.join(timeout=5)
    assert not any(thread.is_alive() for thread in mine)
