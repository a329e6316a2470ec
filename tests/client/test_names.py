"""What anybody in the network may say that a machine is called, and what of it is shown."""

from hypothesis import given, strategies as st
import pytest

from custom_components.homelab_monitor.client.transport.names import looks, name_of

OF_ANOTHER = [
    "192.0.2.1",
    "192.0.2.1.",
    "192.0.2.1.local.",
    "192.0.2.1.LOCAL.local..",
    "192.0.2.1.lan",
    "192.0.2.1.home.arpa",
    "192-0-2-1",
    "ip-192-0-2-1.lan",
    "192_0_2_1",
    "nas.192.0.2.1",
    "192.000.002.001",
    "0300.0.02.01",
    "0xC0.0x0.0x2.0x1",
    "0xc0000201",
    "3221225985",
    "192.513",
    "l92.0.2.l",
    "I92.O.2.i",
    "2001:db8::1",
    "2001-db8--1",
    "2001-0db8-0-0-0-0-0-1.local",
    "fe80--1s4.ipv6-literal.net",
    "1.2.0.192.in-addr.arpa",
    "b.a.8.b.d.0.1.0.0.2.ip6.arpa",
    "02:00:00:00:00:09",
    "02-00-00-00-00-09.local",
    "0200.0000.0009",
    "aaBBccDDeeFF",
    "ip192-0-2-1",
    "host192.0.2.1",
    "I92.O.Z.I",
    "l92.16B.2.S",
    "l92.513",
    "lO.l",
    "322l225985",
    "Oxc0000201",
    "0xcO00020l",
    "FE8O--1",
    "fd0O--l",
    "Z00l-db8--1",
    "FE8O--ls4.ipv6-literal.net",
    "dO-5f-b2-aa-0l-ff",
    "O2-OO-OO-OO-OO-O9",
    "aabbccddee0l",
    "o2oo.oooo.ooo9",
    "localhost",
    "localh0st",
    "1oca1host",
    "local-host.lan",
    "LOCALHO5T",
    "ip6-localhost",
    "localhost4",
    "localhost.localdomain",
    "\N{FULLWIDTH DIGIT ONE}92.0.2.1",
    "n\N{CYRILLIC SMALL LETTER A}s",
    "xn--ns-7kc",
    "nas.xn--ns-7kc",
    "192.0.2.1\u200b.local",
    "\u202e1.2.0.291",
]


@pytest.mark.parametrize("said", OF_ANOTHER)
def test_nothing_is_called_like_the_address_of_a_machine_however_it_is_written(said: str) -> None:
    assert name_of(said) == ""


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("nas.local.", "nas"),
        ("NAS.Local", "NAS"),
        ("nas.lan", "nas.lan"),
        ("nas.home.arpa", "nas.home.arpa"),
        ("oil", "oil"),
        *((name, name) for name in ("so2", "i7", "s3", "b52", "oxide", "boss", "silo.lan", "silo-is-so-bossi")),
        *((name, name) for name in ("officialised", "cafe.lan", "ox", "o365.lan", "pi4-8gb", "solis.bozo", "local")),
        ("pve1", "pve1"),
        ("node-1-2", "node-1-2"),
        ("backup_server", "backup_server"),
        ("raspberrypi-4b", "raspberrypi-4b"),
        ("nas-001132aabbcc", "nas-001132aabbcc"),
        ("", ""),
        (None, ""),
        (".local", ""),
        ("a b", ""),
        ("nas · 192.0.2.1", ""),
    ],
)
def test_a_name_is_kept(said: str | None, name: str) -> None:
    assert name_of(said) == name


@given(
    st.ip_addresses(v=4),
    st.sampled_from([".", "-", "_", ".0"]),
    st.sampled_from(["", "host-", "a.", "_"]),
    st.sampled_from(["", ".", ".local", ".local.local", ".lan", ".x.y", "-x"]),
    st.booleans(),
)
def test_an_address_is_no_part_of_a_name(
    address: object, between: str, before: str, after: str, is_letters: bool
) -> None:
    written = before + str(address).replace(".", between) + after
    written = written.translate(str.maketrans("01", "Ol")) if is_letters else written
    assert name_of(written) == ""


@given(st.text(alphabet="abcz019-._:xlLOI", max_size=30), st.sampled_from(["", ".local", ".local.local", "."]))
def test_what_is_checked_is_what_is_shown(said: str, suffix: str) -> None:
    name = name_of(said + suffix)
    assert name_of(name) == name


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("nas", "NAS"),
        ("nas", "nas.lan"),
        ("My NAS", "my-nas"),
        ("cloud1", "cloudl"),
        ("proxmox", "pr0xmox"),
        ("farm", "farrn"),
        ("web", "vveb"),
        ("NAS", "NA5"),
        ("docker", "clocker"),
        ("BOX2", "BOXZ"),
        ("box8", "80XB"),
        ("living_room", "livingroom.local"),
    ],
)
def test_names_that_may_be_taken_for_each_other_look_alike(one: str, other: str) -> None:
    assert looks(one) & looks(other)


def test_names_that_may_not_be_taken_for_each_other_look_different() -> None:
    names = ["nas", "nas2", "desk", "pve1", "pve2", "tower"]
    assert not any(looks(one) & looks(other) for one in names for other in names if one != other)


def test_a_name_is_as_long_as_dns_lets_it_be() -> None:
    longest = ".".join(["a" * 63] * 3 + ["b" * 61])
    assert len(longest) == 253
    assert name_of(longest) == longest
    assert name_of(longest + "b") == longest
