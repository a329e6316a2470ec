"""What a host prints beside the replies of the probe: read in little time and memory, whatever it is."""

import time
import tracemalloc

import pytest

from custom_components.homelab_monitor.client.checks.host_facts import parse_facts
from custom_components.homelab_monitor.client.control.install_updates import Phase, parse_upgrade
from custom_components.homelab_monitor.client.limits import DISKS_ASKED, LINE_LIMIT
from custom_components.homelab_monitor.client.transport.command import OUTPUT_LIMIT, Output, Question

SECONDS = 1.0
"""Of CPU: three times what a reply may take, for slow machines; the old code took 2 to 28."""
BYTES = 20 << 20


def filled(part: str, begin: str, again: str, end: str = "") -> str:
    """Return facts as long as they can be, of which one part repeats something."""
    head = f"\x1euname\nLinux\n6.1\nx86_64\n\x1e{part}\n{begin}"
    room = OUTPUT_LIMIT - len((head + end).encode())
    return head + again * (room // len(again.encode())) + end


WORST = {
    "many commands of one rule": filled("updates_rule", "sudo    (root) NOPASSWD: ", "ALL,"),
    "wide characters": filled("updates_rule", "sudo    (root) NOPASSWD: \N{GRINNING FACE}", "ALL,"),
    "many patterns": filled("updates_rule", "sudo    (root) NOPASSWD: ", "*y,"),
    "many slashes and stars": filled("updates_rule", "sudo    (root) NOPASSWD: ", "/*/*/*/*y,"),
    "many rules": filled("updates_rule", "", "sudo    (root) NOPASSWD: ALL\n"),
    "many real paths and patterns": filled(
        "updates_rule", "".join(f"real /{number}x\n" for number in range(3000)) + "sudo    (root) NOPASSWD: ", "*y,"
    ),
    "many places": filled("updates_rule", "", "place drwxr-xr-x 0 /usr\n"),
    "one long tag": filled("updates_rule", "sudo    (root) ", "A"),
    "many tags": filled("updates_rule", "sudo    (root) ", "NOPASSWD: "),
    "many defaults": filled("updates_rule", "sudo ", "!authenticate,"),
    "many parentheses": filled("updates_rule", "sudo ", "  ("),
    "many spaces": filled("updates_rule", "sudo ", " "),
    "old jobs": filled("updates_rule", "sudo ", "systemd-run,"),
    "many disks": filled("smart", "tool /usr/sbin/smartctl\n", "denied sda\n"),
    "many names": filled("os_release", "", "A=b\n"),
    "many sockets": filled("docker", "", "socket usable\n"),
    "many errors": filled("sudo", "1\n", "sudo: a password is required\n"),
    "separators": filled("sudo", "1\n", "\x1e"),
}


@pytest.mark.parametrize("name", WORST)
def test_the_worst_facts_are_read_at_once(name: str) -> None:
    text = WORST[name]
    began = time.process_time()
    parse_facts(text)
    assert time.process_time() - began < SECONDS
    tracemalloc.start()
    try:
        parse_facts(text)
        assert tracemalloc.get_traced_memory()[1] < BYTES
    finally:
        tracemalloc.stop()


def test_disks_are_reported_once_each_and_so_many() -> None:
    lines = [f"denied sd{number}\n" for number in range(3000)]
    smart = parse_facts("\x1esmart\n" + "".join(["denied sda\n", *lines, "denied sda\n"])).smart
    assert len(smart.denied) == len(set(smart.denied)) == DISKS_ASKED


def test_an_exit_status_of_any_length_is_a_failure() -> None:
    for digits in ("9" * 5000, "1" * 5000, "000", "256", "\N{ARABIC-INDIC DIGIT ZERO}"):
        told = parse_upgrade(f"upgrade ended {digits}\n", "apt")
        assert told is None or (told.phase is Phase.FAILED and len(told.detail) <= LINE_LIMIT + 20)
    assert parse_upgrade("upgrade ended 0\n", "apt").phase is Phase.DONE


def test_a_question_that_is_repeated_without_end_costs_no_more_than_two() -> None:
    output = Output(OUTPUT_LIMIT, question=Question(b"sudo:", b"secret"))
    packet = b"sudo:" * 50_000
    began = time.process_time()
    for _ in range(4):
        output.error_output(packet)
    assert time.process_time() - began < 0.1
    assert output.asked == 2
