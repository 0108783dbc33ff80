"""A crew does all parts of a job, each once, and says what went wrong in any of them."""

import gc
import threading

import pytest

from hyperrec_core.threads import Crew


@pytest.mark.parametrize(("threads", "parts"), [(1, 1), (3, 3), (3, 2), (3, 1)])
def test_every_part_is_done_once_by_a_thread_of_its_own(threads, parts):
    crew, done = Crew(threads), []
    for _ in range(20):
        crew.run(lambda part: done.append((part, threading.get_ident())), parts)
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
        crew.run(job, 3)
    assert sorted(done) == sorted({0, 1, 2} - {failing})
    crew.run(done.append, 3)
    assert len(done) == 5


def test_the_threads_end_with_the_crew():
    crew, mine = Crew(4), set()
    crew.run(lambda part: mine.add(threading.current_thread()), 4)
    mine.remove(threading.current_thread())
    assert len(mine) == 3
    del crew
    gc.collect()
    for thread in mine:
        thread.join(timeout=5)
    assert not any(thread.is_alive() for thread in mine)
