"""Which host keys are trusted: against real servers, and against some that lie."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
import shlex
import subprocess

import asyncssh
from asyncssh.packet import String
from hypothesis import given, settings, strategies as st
import pytest

from custom_components.homelab_monitor.client.errors import ConnectionLost, HostKeyChanged
from custom_components.homelab_monitor.client.limits import HOST_KEYS_LIMIT
from custom_components.homelab_monitor.client.probe.programs import load_programs
from custom_components.homelab_monitor.client.probe.session import ProbeSession
from custom_components.homelab_monitor.client.transport.command import Output
from custom_components.homelab_monitor.client.transport.host_keys import renewed
from custom_components.homelab_monitor.client.transport.keys import KeyPair, fingerprint, fingerprint_command
from custom_components.homelab_monitor.client.transport.ssh import Connection, read_host_key
from custom_components.homelab_monitor.client.transport.target import Target
from tests.dropbear import Dropbear, make_dropbear  # noqa: F401
from tests.fake_host import FakeHost
from tests.sshd import Sshd, make_host_key

SECONDS = 10.0
STRANGER = KeyPair.generate().public_openssh
KINDS = ("rsa", "ecdsa", "ed25519")


def give_keys(server: Sshd, *kinds: str) -> dict[str, str]:
    """Let a server start anew with host keys of these types, in this order; return their lines."""
    server.stop()
    options, lines = [], {}
    for kind in kinds:
        folder = server.folder / kind
        if not folder.exists():
            folder.mkdir()
            make_host_key(folder, kind)
        options.append(f"HostKey {folder}/host")
        lines[kind] = " ".join((folder / "host.pub").read_text().split()[:2])
    # The first `HostKey` of the file is the server's own; a server without it has only these.
    server.extra = "\n".join(options)
    (server.folder / "host").unlink(missing_ok=True)
    server.start()
    return lines


async def opened(server: Sshd | Dropbear, host_keys: Sequence[str], **options: object) -> Connection:
    """Log in; one command later, what the server had to say has come."""
    connection = await Connection.open(server.target, server.key, host_keys, timeout=SECONDS, **options)
    await connection.run("true", timeout=SECONDS)
    return connection


async def keys_after_login(server: Sshd | Dropbear, host_keys: Sequence[str], **options: object) -> tuple[str, ...]:
    """Return what is pinned after a login."""
    connection = await opened(server, host_keys, **options)
    await connection.close()
    return connection.host_keys


# ---------------------------------------------------------------- the first contact


async def test_the_first_contact_is_one_handshake_that_shows_one_key_ed25519_first(
    make_sshd: Callable[..., Sshd],
) -> None:
    server = make_sshd()
    lines = give_keys(server, *KINDS)
    (server.folder / "log").write_text("")
    shown = await read_host_key("127.0.0.1", server.port, SECONDS)
    assert shown.line == lines["ed25519"]
    assert shown.server_version.startswith("SSH-2.0-OpenSSH")
    assert server.log.count("Connection from") == 1
    assert "Accepted" not in server.log


@pytest.mark.parametrize(("kinds", "shown"), [(("rsa",), "rsa"), (("rsa", "ecdsa"), "ecdsa")])
async def test_a_server_without_ed25519_shows_the_next_best_key(
    make_sshd: Callable[..., Sshd], kinds: tuple[str, ...], shown: str
) -> None:
    server = make_sshd()
    lines = give_keys(server, *kinds)
    assert (await read_host_key("127.0.0.1", server.port, SECONDS)).line == lines[shown]


async def test_the_types_of_known_keys_are_asked_for_first(make_sshd: Callable[..., Sshd]) -> None:
    server = make_sshd()
    lines = give_keys(server, *KINDS)
    shown = await read_host_key("127.0.0.1", server.port, SECONDS, known=(lines["rsa"],))
    assert shown.line == lines["rsa"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_that_is_shown_prints_the_fingerprint_that_is_shown(tmp_path: Path, kind: str) -> None:
    make_host_key(tmp_path, kind)
    line = " ".join((tmp_path / "host.pub").read_text().split()[:2])
    command = fingerprint_command(line, "linux")
    usual = f"/etc/ssh/ssh_host_{kind}_key.pub"
    assert usual in command
    words = shlex.split(command.replace(usual, str(tmp_path / "host.pub")))
    printed = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    assert fingerprint(line) in printed.split()


@pytest.mark.parametrize("kind", KINDS)
async def test_the_command_for_dropbear_prints_the_fingerprint_that_is_shown(
    make_dropbear: Callable[..., Dropbear],  # noqa: F811
    kind: str,
) -> None:
    server = make_dropbear(kind)
    shown = await read_host_key("127.0.0.1", server.port, SECONDS)
    assert shown.line == server.host_key(kind)
    assert "dropbear" in shown.server_version
    command = fingerprint_command(shown.line, "openwrt")
    usual = f"/etc/dropbear/dropbear_{kind}_host_key"
    assert usual in command
    words = shlex.split(command.replace(usual, str(server.host_key_file(kind))))
    printed = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    assert fingerprint(shown.line) in printed.split()


async def test_a_key_of_another_type_is_a_changed_one_even_when_it_is_the_only_one(
    make_sshd: Callable[..., Sshd],
) -> None:
    server = make_sshd()
    lines = give_keys(server, "ecdsa")
    with pytest.raises(HostKeyChanged) as caught:
        await opened(server, (STRANGER,))
    assert caught.value.placeholders["offered"] == fingerprint(lines["ecdsa"])


# ---------------------------------------------------------------- what a server proves after the login


async def test_the_other_keys_of_a_server_are_pinned_once_it_has_proven_them(make_sshd: Callable[..., Sshd]) -> None:
    server = make_sshd()
    lines = give_keys(server, *KINDS)
    assert await keys_after_login(server, (lines["ed25519"],)) == (lines["ed25519"], lines["rsa"], lines["ecdsa"])


async def test_a_key_that_the_server_retires_is_dropped_and_the_others_keep_their_order(
    make_sshd: Callable[..., Sshd],
) -> None:
    server = make_sshd()
    lines = give_keys(server, *KINDS)
    pinned = (lines["ecdsa"], STRANGER, lines["rsa"], lines["ed25519"])
    assert await keys_after_login(server, pinned) == (lines["ecdsa"], lines["rsa"], lines["ed25519"])
    give_keys(server, "ecdsa", "ed25519")
    assert await keys_after_login(server, pinned) == (lines["ecdsa"], lines["ed25519"])


async def test_a_server_that_sends_no_list_changes_nothing(make_dropbear: Callable[..., Dropbear]) -> None:  # noqa: F811
    server = make_dropbear("ed25519", "rsa")
    pinned = (STRANGER, server.host_key("ed25519"), "ecdsa-sha2-nistp256 AAAA")
    assert await keys_after_login(server, pinned) == pinned


class Liar:
    """A server that tells of keys whatever it likes, and proves what it likes."""

    def __init__(self, host: FakeHost) -> None:
        self.host = host
        self.listed: list[asyncssh.SSHKey] = []
        self.signs = True
        self._done: set[asyncssh.SSHServerConnection] = set()

    async def tell(self) -> None:
        """Send the list on every connection that has logged in."""
        while True:
            for connection in list(self.host.connections - self._done):
                if connection.get_extra_info("username") and connection._auth_complete:
                    self._done.add(connection)
                    prove = "_process_hostkeys_prove_00_at_openssh_dot_com_global_request"
                    setattr(connection, prove, lambda packet, connection=connection: self._prove(connection, packet))
                    keys = [String(key.public_data) for key in self.listed]
                    connection._send_global_request(b"hostkeys-00@openssh.com", *keys)
            await asyncio.sleep(0.005)

    def _prove(self, connection: asyncssh.SSHServerConnection, packet: asyncssh.packet.SSHPacket) -> None:
        by_data = {key.public_data: key for key in self.listed}
        prefix = String("hostkeys-prove-00@openssh.com") + String(connection._session_id)
        signatures = b""
        while packet:
            data = packet.get_string()
            key = by_data[data] if self.signs else asyncssh.generate_private_key("ssh-ed25519")
            signatures += String(key.sign(prefix + String(data), key.sig_algorithms[0]))
        connection._report_global_response(signatures)


@pytest.fixture
async def liar() -> AsyncIterator[Liar]:
    async with FakeHost() as host, talking(Liar(host)) as it:
        yield it


@asynccontextmanager
async def talking(liar: Liar) -> AsyncIterator[Liar]:
    """Let it talk meanwhile."""
    task = asyncio.create_task(liar.tell())
    try:
        yield liar
    finally:
        task.cancel()


def new_keys(number: int) -> list[asyncssh.SSHKey]:
    return [asyncssh.generate_private_key("ssh-ed25519") for _ in range(number)]


def line_of(key: asyncssh.SSHKey) -> str:
    return " ".join(key.export_public_key().decode().split()[:2])


async def heard(liar: Liar, host_keys: Sequence[str], **options: object) -> tuple[str, ...]:
    """Return what is pinned after a login and whatever the server tells then."""
    host = liar.host
    connection = await Connection.open(host.target, host.key, host_keys, timeout=SECONDS, **options)
    before = connection.host_keys
    for _ in range(40):
        await asyncio.sleep(0.01)
        if connection.host_keys is not before:
            break
    await connection.close()
    return connection.host_keys


@pytest.mark.parametrize("names_its_own", [False, True])
async def test_keys_that_a_server_only_names_are_not_pinned(liar: Liar, names_its_own: bool) -> None:
    liar.listed, liar.signs = new_keys(3), False
    if names_its_own:
        liar.listed.append(liar.host._private)
    assert await heard(liar, liar.host.host_keys) == liar.host.host_keys


async def test_a_list_without_the_key_in_use_and_without_proof_is_not_believed(liar: Liar) -> None:
    pinned = (*liar.host.host_keys, STRANGER)
    liar.listed, liar.signs = new_keys(1), False
    assert await heard(liar, pinned) == pinned


async def test_the_key_in_use_stays_even_when_the_server_has_replaced_all_it_has(liar: Liar) -> None:
    liar.listed = new_keys(2)
    pinned = (STRANGER, *liar.host.host_keys)
    assert await heard(liar, pinned) == (*liar.host.host_keys, *map(line_of, liar.listed))


async def test_a_server_with_a_hundred_keys_fills_eight_places_and_lets_us_in_again(liar: Liar) -> None:
    pinned = liar.host.host_keys
    for _ in range(3):
        liar.listed = new_keys(100)  # as many as a list may hold that is looked at
        pinned = await heard(liar, pinned)
        assert len(pinned) == HOST_KEYS_LIMIT
        assert set(liar.host.host_keys) < set(pinned)


async def test_months_of_rotation_neither_grow_the_list_nor_lock_us_out(liar: Liar) -> None:
    # As a careful administrator does it: the next key is announced before it is used.
    host, pinned = liar.host, liar.host.host_keys
    following = new_keys(1)[0]
    for _ in range(12):
        liar.listed = [host._private, following]
        pinned = await heard(liar, pinned)
        assert pinned == (line_of(host._private), line_of(following))
        await host.stop()
        host._private, following = following, new_keys(1)[0]
        await host.start()


def test_a_thousand_rotations_of_a_server_that_never_retires_a_key_do_not_lock_us_out() -> None:
    names = [f"key {number}" for number in range(1001)]
    pinned: tuple[str, ...] = (names[0],)
    for number in range(1000):
        in_use, listed = names[number], names[: number + 2]
        assert in_use in pinned, number
        pinned = renewed(pinned, in_use, set(pinned) & set(listed), [name for name in listed if name not in pinned])
        assert len(pinned) <= HOST_KEYS_LIMIT


NAMES = st.sampled_from([f"key {number}" for number in range(30)])


@settings(max_examples=500, deadline=None)
@given(pinned=st.lists(NAMES, min_size=1, unique=True), told=st.lists(NAMES, unique=True), proves=st.sets(NAMES))
def test_whatever_a_server_reports(pinned: list[str], told: list[str], proves: set[str]) -> None:
    in_use = pinned[len(told) % len(pinned)]
    listed = [name for name in told if name in pinned]
    proven = [name for name in told if name not in pinned and name in proves]
    after = renewed(pinned, in_use, listed, proven)
    assert in_use in after, "never the key of this connection"
    assert set(after) <= {*pinned, *proven}, "nothing unproven"
    assert len(after) == len(set(after))
    is_believed = in_use in listed or bool(proven)
    if not is_believed:
        assert after == tuple(pinned)
        return
    assert len(after) <= HOST_KEYS_LIMIT
    assert set(after) <= {in_use, *listed, *proven}, "what the list omits is dropped"
    if len({in_use, *listed, *proven}) <= HOST_KEYS_LIMIT:
        assert set(after) == {in_use, *listed, *proven}, "and nothing else is"
    kept = [name for name in pinned if name in after]
    assert list(after[: len(kept)]) == kept, "in their order"


# ---------------------------------------------------------------- keys from before each had to be proven


async def test_afresh_only_the_key_in_use_and_what_is_proven_over_it_is_kept(make_sshd: Callable[..., Sshd]) -> None:
    server = make_sshd()
    lines = give_keys(server, *KINDS)
    before = (STRANGER, lines["ecdsa"], lines["ed25519"])
    after = await keys_after_login(server, before, afresh=True)
    assert after == (lines["ed25519"], lines["rsa"], lines["ecdsa"])


async def test_afresh_a_key_of_ours_that_the_server_only_names_is_dropped(liar: Liar) -> None:
    # The man in the middle of the first contact had this one pinned; now the real server is made to name it.
    foreign = new_keys(1)[0]
    liar.listed, liar.signs = [liar.host._private, foreign], False
    before = (*liar.host.host_keys, line_of(foreign))
    assert await heard(liar, before, afresh=True) == liar.host.host_keys


async def test_afresh_a_server_that_sends_no_list_keeps_its_own_key_alone(
    make_dropbear: Callable[..., Dropbear],  # noqa: F811
) -> None:
    server = make_dropbear("ed25519", "rsa")
    before = (server.host_key("rsa"), STRANGER, server.host_key("ed25519"))
    assert await keys_after_login(server, before, afresh=True) == (server.host_key("ed25519"),)


@pytest.mark.parametrize("afresh", [False, True])
async def test_afresh_or_not_a_key_that_is_not_known_is_refused(make_sshd: Callable[..., Sshd], afresh: bool) -> None:
    server = make_sshd()
    with pytest.raises(HostKeyChanged):
        await opened(server, (STRANGER,), afresh=afresh)
    assert "Accepted" not in server.log


async def test_a_dropped_key_does_not_come_back_by_the_spare_connection(fake_host: FakeHost) -> None:
    foreign = new_keys(1)[0]
    fake_host.channels_per_connection = 1
    before = (line_of(foreign), *fake_host.host_keys)
    connection = await Connection.open(fake_host.target, fake_host.key, before, timeout=SECONDS, afresh=True)
    process = await connection.start("a probe", Output(1), timeout=SECONDS)
    # From now on somebody in the middle answers, who has the other key; what is open stays open.
    fake_host._listener.close()
    fake_host._private = foreign
    await fake_host.start()
    with pytest.raises(HostKeyChanged):
        await connection.run("id", timeout=SECONDS)
    assert fake_host.logins == 1
    process.kill()
    await connection.close()


async def test_a_session_uses_what_its_last_login_left(make_sshd: Callable[..., Sshd]) -> None:
    server = make_sshd()
    lines = give_keys(server, "ed25519")
    attacker = make_sshd()
    theirs = attacker.host_keys[0]
    programs = await asyncio.to_thread(load_programs)
    session = ProbeSession(
        server.target, server.key, (theirs, lines["ed25519"]), programs, timeout=SECONDS, afresh=True
    )
    await session.poll(["load"])
    assert session.host_keys == (lines["ed25519"],)
    assert not session.afresh
    await session.disconnect()
    session._target = Target(server.target.username, "127.0.0.1", attacker.port)
    with pytest.raises(HostKeyChanged):
        await session.poll(["load"])
    await session.close()


@pytest.mark.parametrize("each_poll", [False, True])
async def test_a_session_learns_what_the_host_proves_at_a_poll(make_sshd: Callable[..., Sshd], each_poll: bool) -> None:
    server = make_sshd()
    lines = give_keys(server, *KINDS)
    programs = await asyncio.to_thread(load_programs)
    session = ProbeSession(
        server.target, server.key, (lines["ed25519"],), programs, timeout=SECONDS, each_poll=each_poll
    )
    await session.poll(["load"])
    assert session.host_keys == (lines["ed25519"], lines["rsa"], lines["ecdsa"])
    await session.close()


async def test_a_session_does_not_hear_a_connection_whose_own_key_it_no_longer_trusts(fake_host: FakeHost) -> None:
    programs = await asyncio.to_thread(load_programs)
    session = ProbeSession(fake_host.target, fake_host.key, fake_host.host_keys, programs, timeout=SECONDS)
    await session.poll(["load"])
    assert session.connection
    before = session.connection.host_keys
    session.host_keys = (STRANGER,)  # As another login left them, over which the host has retired that key.
    liar = Liar(fake_host)
    liar.listed = new_keys(1)
    async with talking(liar):
        for _ in range(200):
            await asyncio.sleep(0.01)
            if session.connection.host_keys is not before:
                break
        assert session.connection.host_keys is not before
        await session.poll(["load"])
    assert session.host_keys == (STRANGER,)
    await session.close()


async def test_of_two_first_logins_at_once_only_the_one_whose_key_is_kept_goes_on(fake_host: FakeHost) -> None:
    # The keys of an older entry were the host's and somebody else's; here somebody in the middle answers the second.
    programs = await asyncio.to_thread(load_programs)
    before = (STRANGER, *fake_host.host_keys)
    session = ProbeSession(fake_host.target, fake_host.key, before, programs, timeout=SECONDS, afresh=True)
    second = asyncio.ensure_future(session.poll(["load"]))
    while not session._opening:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    session.narrow((STRANGER,))
    with pytest.raises(ConnectionLost):
        await second
    assert (session.host_keys, session.connection) == ((STRANGER,), None)
    assert fake_host.commands == [], "and is asked nothing"
    await session.close()
