"""Start a probe, which reports the machine that it runs on; or only identify the machine if no probe is needed.

Clones of one template have the same host keys, and a reassigned lease, or a man in the middle, leads from one to the
other: the login proves the template. So a connection knows the expected machine, and until the one that answers has
reported its id, it carries no request, no command and no password.
"""

from collections.abc import Awaitable, Callable

from ..errors import BadReply, HomelabError, NoPython, PythonIncomplete
from ..time_limit import TimeLimit
from ..transport.ssh import Connection
from .framing import Marker
from .process import ProbeProcess
from .programs import BOOTSTRAP, INTERPRETERS, Programs
from .snapshot import PROTOCOL
from .upload import STALLED_SECONDS, load

type Send = Callable[[Connection, ProbeProcess, bytes], Awaitable[Marker]]


async def start_probe(  # noqa: PLR0913
    connection: Connection,
    probe: ProbeProcess,
    interpreter: str,
    payload: bytes,
    *,
    timeout: float,  # noqa: ASYNC109
    send: Send = load,
) -> Marker:
    """Wait for one interpreter's hello, send it the program and return its marker; raise AnotherMachine."""
    try:
        process = await connection.start(BOOTSTRAP.format(interpreter=interpreter), probe, timeout=timeout)
        seconds = timeout
        async with TimeLimit(seconds):
            await probe.greet(process)
        seconds = STALLED_SECONDS
        marker = await send(connection, probe, payload)
    except TimeoutError as err:
        raise await probe.explain_silence(seconds) from err
    finally:
        if not probe.is_alive:
            probe.stop()
    try:
        if marker.protocol != PROTOCOL:
            raise BadReply(connection.host, f"protocol {marker.protocol}, expected {PROTOCOL}")
        connection.meet(marker.machine)
    except HomelabError:
        probe.stop()
        raise
    return marker


async def ask_who(connection: Connection, programs: Programs, timeout: float) -> None:  # noqa: ASYNC109
    """Identify the machine of a connection; raise AnotherMachine, or the HomelabError that explains why that failed.

    One without Python has never reported an id, or no longer does, and may be the same: its Python has to be repaired.
    """
    for interpreter in INTERPRETERS:
        probe = ProbeProcess(connection.host, interpreter)
        try:
            await start_probe(connection, probe, interpreter, programs.who.payload, timeout=timeout)
        except NoPython, PythonIncomplete:
            continue
        # A server may allow one channel at a time.
        await probe.see_end(timeout)
        return
    connection.meet("")
