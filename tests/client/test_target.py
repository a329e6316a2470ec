"""Addresses as people type and paste them."""

import random

import pytest

from custom_components.homelab_monitor.client.errors import InvalidTarget
from custom_components.homelab_monitor.client.transport.target import Target

READ = {
    "root@nas": Target("root", "nas"),
    "  root@nas \n": Target("root", "nas"),
    "root@NAS.Local:2222": Target("root", "nas.local", 2222),
    "root@nas:22": Target("root", "nas", 22),
    "root@192.168.1.2": Target("root", "192.168.1.2"),
    "root@my_host": Target("root", "my_host"),
    "root@nas.": Target("root", "nas."),
    "root@::1": Target("root", "::1"),
    "root@[::1]": Target("root", "::1"),
    "root@[FE80::0001%eth0]:2222": Target("root", "fe80::1%eth0", 2222),
    "DOMAIN\\user@host": Target("DOMAIN\\user", "host"),
    "user@domain.example@host:2": Target("user@domain.example", "host", 2),
    "Jane Doe@pc": Target("Jane Doe", "pc"),
    "jürgen@pc": Target("jürgen", "pc"),
    "ssh pi@192.0.2.5": Target("pi", "192.0.2.5"),
    "ssh  -p 2222 pi@nas": Target("pi", "nas", 2222),
    "ssh pi@nas -p 2222": Target("pi", "nas", 2222),
    "ssh -p2222 -l pi nas": Target("pi", "nas", 2222),
    "ssh nas -l pi": Target("pi", "nas"),
    "ssh://pi@nas": Target("pi", "nas"),
    "ssh://pi@nas:2222/": Target("pi", "nas", 2222),
    "ssh://pi@[fe80::1]:2222": Target("pi", "fe80::1", 2222),
    "ssh@nas": Target("ssh", "nas"),
}
REFUSED = (
    "", "@", "@nas", "root@", "root@:22", "root@nas:", "root@nas:0", "root@nas:65536", "root@nas:+2",
    "root@nas:22:22:x", "root@[::1", "root@::1]", "root@[nas]:22", "root@[::1]x", "root@[::1]:", "root@1::2::3",
    "root@[fe80::1%]", "root@[fe80::1%$(x)]", "root@nas; reboot", "root@$(reboot)", "root@-oProxyCommand=x", "-l@nas",
    "root@na s", "root@nas\n22", "svc$@nas", "ro\not@nas", "$(id)@nas", "`id`@nas", "a|b@nas", "root:secret@nas",
    "ssh -oProxyCommand=x root@nas", "ssh -p x root@nas", "ssh root@nas reboot", "ssh -i key root@nas", "ssh://",
    "ssh://root@nas/etc/passwd", "ssh://root:secret@nas", "http://root@nas", "ssh -p 22", "ssh -l $(id) nas",
    "root@nas:\uff12\uff12", "root@nas/22", "root@a..b", "root@.nas", "root@ünicode",
    "\x00@nas", "root @nas", "root@" + "a" * 300, "a" * 300 + "@nas",
)  # fmt: skip


@pytest.mark.parametrize(("text", "target"), READ.items())
def test_a_typed_address_is_read(text: str, target: Target) -> None:
    assert Target.parse(text) == target


@pytest.mark.parametrize("target", READ.values())
def test_a_target_is_read_back_from_its_text(target: Target) -> None:
    assert Target.parse(str(target)) == target


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_address_is_refused_with_the_reason(text: str) -> None:
    with pytest.raises(InvalidTarget) as caught:
        Target.parse(text)
    assert caught.value.key == "invalid_target"
    assert caught.value.detail
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["nas", "127.0.0.1", "nas:2222", "ssh nas", "ssh://192.0.2.5", "[::1]:22"])
def test_an_address_alone_says_that_the_user_is_missing(text: str) -> None:
    with pytest.raises(InvalidTarget) as caught:
        Target.parse(text)
    assert caught.value.key == "username_missing"


def test_the_default_user_is_taken_only_where_none_was_typed() -> None:
    assert Target.parse("nas", "monitor") == Target("monitor", "nas")
    assert Target.parse("root@nas", "monitor") == Target("root", "nas")
    with pytest.raises(InvalidTarget):
        Target.parse("@nas")


def test_whatever_is_accepted_survives_the_round_trip() -> None:
    choose = random.Random(1)  # Seeded: a failure can be repeated.
    accepted = 0
    for _ in range(20_000):
        text = "".join(choose.choices("ab1.:@[]%\\-_ $'\n2", k=choose.randrange(1, 12)))
        try:
            target = Target.parse(text, "root")
        except InvalidTarget:
            continue
        accepted += 1
        assert Target.parse(str(target)) == target
        assert not set(target.host) & set(" @[]\\$'\n")
    assert accepted > 100
