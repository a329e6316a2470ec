"""What is said of a firewall is what a stranger finds who tries to connect, under rules that the real tools made."""

import pytest

from tests.needs import needs

from .firewalled import RULES, Firewalled, Rules, forbidden, missing


@pytest.fixture(scope="module", autouse=True)
def _namespaces() -> None:
    lacks = missing()
    needs(not lacks, f"for rules of a firewall: {', '.join(lacks)}")
    if why := forbidden():
        pytest.skip(f"namespaces are not allowed here: {why}")


@pytest.mark.parametrize("rules", RULES, ids=lambda rules: rules.name)
def test_the_verdict_is_what_a_stranger_finds(rules: Rules) -> None:
    with Firewalled() as place:
        place.run(rules.script)
        told = place.ask()
        found = place.find(rules.found)
    assert tuple("accepted" if one == "accepted" else "refused" for one in found) == rules.found
    assert told["reason"] in rules.told or told["state"] in rules.told, told
    assert told["state"] != "ok" or told["backend"] == rules.backend
    # Whatever was expected: `ok` is never said where a stranger comes in, nor `inactive` where one is turned away.
    is_open = [one == "accepted" for one in found]
    assert told["state"] != "ok" or not (is_open[1] or is_open[3])
    assert told["reason"] != "inactive" or all(is_open)
