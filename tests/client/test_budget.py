"""The account of a connection, with a clock that the tests move."""

from collections.abc import Callable

import pytest

from custom_components.homelab_monitor.client.errors import NotSSH, TooMuchTraffic
from custom_components.homelab_monitor.client.limits import (
    COMMAND,
    GREETING,
    GREETING_LINES,
    HOST_KEYS_BYTES,
    KEY_EXCHANGE,
    LOGIN,
    NOTICE_BYTES,
    NOTICES,
    PER_SECOND,
    POLL,
    REKEYS,
)
from custom_components.homelab_monitor.client.transport.budget import AUTHENTICATED, GREETED, Budget

DAY = 86400


class Clock:
    """A clock that stands still."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return the clock of the budget."""
    return Clock()


@pytest.fixture
def budget(clock: Clock) -> Budget:
    """Return the budget of a connection that has logged in."""
    budget = Budget("nas", clock)
    budget.enter(AUTHENTICATED)
    return budget


def times(take: Callable[[], None]) -> int:
    """Return how often something can be taken until nothing is left."""
    for count in range(2_000_000):
        try:
            take()
        except TooMuchTraffic:
            return count
    raise AssertionError("it never ends")


def test_a_connection_that_is_used_as_it_should_be_lives_for_weeks(budget: Budget, clock: Clock) -> None:
    for second in range(21 * DAY // 10):
        clock.now = 10.0 * second
        budget.make_room()
        for _ in range(4):
            budget.take_bytes(400)  # A poll of a host with 100 containers, in a few packets.
            budget.take_packet()
        budget.take_time(0.02)  # On a machine as slow as a Raspberry Pi 2.
        budget.take_packet()
        budget.take_notice(50)  # ClientAliveInterval 10
        if second % 360 == 0:
            budget.take_packet()
            budget.take_notice(1500)
            budget.take_rekey()  # RekeyLimit 1G 1h


def test_every_poll_may_have_the_largest_reply(budget: Budget, clock: Clock) -> None:
    for poll in range(1000):
        clock.now = 5.0 * poll
        budget.make_room()
        for _ in range(4096):
            budget.take_bytes(2048 + 60)
            budget.take_packet()
        budget.take_time(1.5)


def test_a_command_may_print_a_hundred_megabytes(budget: Budget) -> None:
    with budget.command():
        for _ in range(200_000):
            budget.take_packet()
            budget.take_bytes(600)


def test_keepalives_may_come_each_second(budget: Budget, clock: Clock) -> None:
    for second in range(3 * DAY):
        clock.now = second
        budget.take_bytes(100)
        budget.take_packet()
        budget.take_notice(50)


@pytest.mark.parametrize(
    ("per_second", "ends_within"), [(PER_SECOND.packets + 5, POLL.packets / 5), (10 * PER_SECOND.packets, 30)]
)
def test_a_drip_above_what_comes_back_adds_up(
    budget: Budget, clock: Clock, per_second: int, ends_within: float
) -> None:
    def one_second() -> None:
        clock.now += 1
        budget.take_bytes(36 * per_second)
        for _ in range(per_second):
            budget.take_packet()

    assert times(one_second) <= ends_within + 1


def test_key_exchanges_may_come_once_a_minute_and_not_each_second(budget: Budget, clock: Clock) -> None:
    def after(seconds: float) -> None:
        clock.now += seconds
        budget.take_bytes(5000)
        budget.take_rekey()

    for _ in range(1000):
        after(61.0)
    assert times(lambda: after(1.0)) <= REKEYS + 1


def test_room_that_was_not_used_does_not_add_up(budget: Budget) -> None:
    for _ in range(1000):
        budget.make_room()
    assert times(budget.take_packet) == POLL.packets
    budget.make_room()
    assert times(budget.take_packet) == POLL.packets


@pytest.mark.parametrize(("kind", "most"), [("notice", NOTICES), ("rekey", REKEYS)])
def test_a_quiet_month_saves_nothing_up_for_a_flood(budget: Budget, clock: Clock, kind: str, most: int) -> None:
    clock.now = 30.0 * DAY
    budget.take_bytes(1)
    assert times(lambda: budget.take_notice(50) if kind == "notice" else budget.take_rekey()) == most


def test_room_for_a_command_ends_with_it(budget: Budget) -> None:
    with budget.command():
        with budget.command():
            pass
        assert times(lambda: budget.take_bytes(1 << 20)) == COMMAND.bytes >> 20
    with budget.command():
        pass
    assert times(lambda: budget.take_bytes(1 << 20)) == POLL.bytes >> 20


def test_before_the_login_nothing_comes_back_with_time(clock: Clock) -> None:
    budget = Budget("nas", clock)
    for phase, row in ((GREETED, KEY_EXCHANGE), (GREETED + 1, LOGIN)):
        budget.enter(phase)

        def drip() -> None:
            clock.now += 3600
            budget.make_room()
            budget.take_bytes(64)

        assert times(drip) == row.bytes // 64
        budget.enter(phase)
        with pytest.raises(TooMuchTraffic):
            drip()


def test_what_talks_before_a_greeting_is_no_ssh_server(clock: Clock) -> None:
    budget = Budget("nas", clock)
    budget.take_lines(GREETING_LINES)
    with pytest.raises(NotSSH):
        budget.take_lines(1)
    budget = Budget("nas", clock)
    budget.take_bytes(GREETING.bytes)
    with pytest.raises(NotSSH):
        budget.take_bytes(1)


def test_each_kind_of_packet_has_an_end(budget: Budget) -> None:
    assert times(lambda: budget.take_notice(10)) == NOTICES
    assert times(budget.take_rekey) == REKEYS
    assert times(lambda: budget.take_time(0.1)) == pytest.approx(POLL.loop_seconds * 10, abs=1)


def test_no_packet_without_data_is_large(budget: Budget) -> None:
    budget.take_notice(NOTICE_BYTES)
    with pytest.raises(TooMuchTraffic, match="35001 bytes"):
        budget.take_notice(NOTICE_BYTES + 1)
    assert HOST_KEYS_BYTES < NOTICE_BYTES


def test_the_error_names_the_host_and_the_cause(budget: Budget) -> None:
    with pytest.raises(TooMuchTraffic) as caught:
        budget.take_bytes(POLL.bytes + 1)
    assert caught.value.placeholders == {"host": "nas", "detail": "too many bytes without a request"}
    with budget.command(), pytest.raises(TooMuchTraffic, match="too many bytes while a command ran"):
        budget.take_bytes(COMMAND.bytes + 1)
