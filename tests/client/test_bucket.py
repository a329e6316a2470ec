"""The token bucket, with a clock that the test moves."""

from unittest.mock import patch

import pytest

from custom_components.homelab_monitor.client.bucket import Bucket


class Clock:
    """What `time.monotonic` says."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    with patch("custom_components.homelab_monitor.client.bucket.time.monotonic", Clock()) as clock:
        yield clock


def takes(bucket: Bucket, most: int = 100) -> int:
    """Return how often a token can be taken now."""
    count = 0
    while count < most and bucket.take():
        count += 1
    return count


def test_a_burst_goes_through_and_then_one_each_time(clock: Clock) -> None:
    bucket = Bucket(3, 60)
    assert takes(bucket) == 3
    clock.now += 59
    assert takes(bucket) == 0
    clock.now += 1
    assert takes(bucket) == 1
    clock.now += 120
    assert takes(bucket) == 2
    clock.now += 3_600
    assert takes(bucket) == 3, "no more than a burst"


def test_it_is_full_when_every_token_is_back_and_not_before(clock: Clock) -> None:
    bucket = Bucket(3, 60)
    assert bucket.is_full
    takes(bucket)
    clock.now += 179
    assert not bucket.is_full
    clock.now += 1
    assert bucket.is_full


def test_what_is_left_comes_back_with_time_and_ends_at_the_burst(clock: Clock) -> None:
    bucket = Bucket(3, 60)
    takes(bucket)
    assert bucket.left == 0
    clock.now += 90
    assert bucket.left == 1.5
    clock.now += 900
    assert bucket.left == 3


def test_one_that_was_stored_goes_on_where_it_was(clock: Clock) -> None:
    bucket = Bucket(3, 60)
    bucket.set_left(0.5, 90)
    assert bucket.left == 2
    assert takes(bucket) == 2
    bucket.set_left(-5, -5)
    assert bucket.left == 0
    bucket.set_left(50, 0)
    assert bucket.left == 3
