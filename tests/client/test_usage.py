"""Two readings of the processes: who used what between them."""

from custom_components.homelab_monitor.client.models import Process, Processes
from custom_components.homelab_monitor.client.tracking.usage import biggest, busiest, usages


def process(pid: int, cpu_seconds: float, started: float = 5.0, memory: int = 0) -> Process:
    return Process(
        pid=pid,
        name="x",
        state="S",
        user="root",
        cpu_seconds=cpu_seconds,
        memory_bytes=memory,
        threads=1,
        started_seconds=started,
    )


def reading(at: float, *processes: Process) -> Processes:
    return Processes(at=at, total=len(processes), processes=processes)


def percents(before: Processes, after: Processes) -> dict[int, float]:
    return {each.process.pid: each.cpu_percent for each in usages(before, after)}


def test_a_whole_core_is_a_hundred_percent() -> None:
    before = reading(100, process(1, 50), process(2, 7))
    assert percents(before, reading(102, process(1, 54), process(2, 7.01))) == {1: 200.0, 2: 0.5}


def test_a_number_that_was_given_again_is_another_process() -> None:
    assert percents(reading(100, process(1, 50)), reading(102, process(1, 1, started=101))) == {1: 50.0}


def test_one_that_was_left_out_before_is_not_taken_for_a_new_one() -> None:
    assert percents(reading(100), reading(102, process(1, 5000, started=3))) == {1: 0.0}


def test_a_counter_that_goes_back_is_no_use() -> None:
    assert percents(reading(100, process(1, 50)), reading(102, process(1, 49.99))) == {1: 0.0}
    assert percents(reading(100, process(1, 50)), reading(100, process(1, 50))) == {1: 0.0}


def test_order_and_number() -> None:
    before = reading(100, *(process(pid, 0) for pid in range(5)))
    found = usages(before, reading(102, *(process(pid, pid % 3, memory=pid // 2) for pid in range(5))))
    assert [each.process.pid for each in busiest(found, 3)] == [2, 1, 4]
    assert [each.process.pid for each in busiest(found, 99)] == [2, 1, 4], "who did nothing is not busy"
    assert [each.process.pid for each in biggest(found, 3)] == [4, 2, 3]


def test_readings_less_than_a_second_apart_are_compared_by_their_own_time() -> None:
    assert percents(reading(100, process(1, 50)), reading(100.25, process(1, 50.1))) == {1: 40.0}
