"""How a host is identified, and how it is distinguished from another machine with the same host keys."""

import pytest

from custom_components.homelab_monitor.client.models import System
from custom_components.homelab_monitor.client.tracking.identity import (
    clone_id,
    host_id,
    is_it,
    machine_of,
)
from custom_components.homelab_monitor.client.transport import ssh

ONE, TWO = "1" * 32, "2" * 32
KEYS = ("ssh-ed25519 AAAA", "ssh-rsa BBBB")


def system(machine_id_hash: str | None) -> System:
    """Return what a host says of itself."""
    return System(hostname="nas", kernel="6.8", architecture="x86_64", machine_id_hash=machine_id_hash)


def test_a_machine_is_known_by_what_it_was_when_it_was_confirmed() -> None:
    assert is_it(ONE, TWO, KEYS, system(TWO)), "reinstalled, with its history"
    assert not is_it(ONE, TWO, KEYS, system(ONE))
    assert not is_it(ONE, TWO, KEYS, None)


@pytest.mark.parametrize("told", [ONE, ONE.upper().replace("1", "A")])
def test_where_nobody_has_noted_it_the_id_says_what_it_was_made_of(told: str) -> None:
    known = host_id(system(told), KEYS[0])
    assert is_it(known, "", KEYS, system(told))
    assert is_it(clone_id(known, KEYS[1]), "", KEYS, system(told)), "a clone that was added as one"
    for other in (system(TWO), system(None), system("../x"), None):
        assert not is_it(known, "", KEYS, other)
        assert not is_it(clone_id(known, KEYS[1]), "", KEYS, other)


@pytest.mark.parametrize("told", [system(TWO), system(None), None])
def test_an_id_that_was_made_of_a_key_is_proven_by_it(told: System | None) -> None:
    assert is_it(host_id(None, KEYS[1]), "", KEYS, told)


@pytest.mark.parametrize("told", [system(TWO), system(None), None])
def test_once_it_is_noted_which_machine_is_meant_a_key_proves_no_more(told: System | None) -> None:
    # Added when it told no machine-id, so its id is made of the key, which every clone of it has as well.
    known = host_id(None, KEYS[0])
    assert is_it(known, ONE, KEYS, system(ONE))
    assert not is_it(known, ONE, KEYS, told)


def test_only_a_machine_that_says_so_is_another_one() -> None:
    assert ssh._is_another(ONE, TWO)
    assert not any(ssh._is_another(ONE, told) for told in (ONE, ""))
    assert not ssh._is_another("", TWO), "nobody has noted which one it is"
    assert (machine_of(system("A" * 32)), machine_of(system("?")), machine_of(None)) == ("a" * 32, "", "")
