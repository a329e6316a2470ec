"""The capability test: gather the evidence of all checks over one connection, and have it evaluated."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
import time

from ..errors import (
    ALARMS,
    AnotherMachine,
    HomelabError,
    ProbeStarting,
    TimedOut,
    UnsupportedSystem,
    without_frames,
)
from ..models import SECTIONS
from ..probe.session import ProbeSession
from ..probe.snapshot import Snapshot
from ..probe.upload import START_SECONDS
from ..time_limit import TimeLimit
from ..transport.ssh import Connection
from ..transport.target import Target
from .evaluation import LATE_READINGS, SHELL_ERRORS, Evidence, evaluate
from .host_facts import FACTS_COMMAND, FACTS_SCRIPT, Facts, parse_facts
from .report import Report

FACTS_SECONDS = 60.0
FIRST_SECONDS = 20.0
"""How long sections that are late at the first contact are requested again."""
AGAIN_SECONDS = 2.0
TEST_SECONDS = START_SECONDS + 180.0
"""Limit of a whole test: waiting for one start, and all requests after it."""


async def run_checks(  # noqa: PLR0913
    session: ProbeSession,
    target: Target,
    host_keys: tuple[str, ...],
    progress: Callable[[float], None] | None = None,
    *,
    installs_updates: bool = False,
    sudo: Sequence[str] = (),
) -> tuple[Report, Snapshot | None]:
    """Test a host through a session of its own; return the report and the snapshot of the dry run.

    The dry run requests the sections of `sudo` with sudo, as polls do. A failure becomes a row:
    nothing is raised except cancellation. It takes TEST_SECONDS at most, whatever the host does.
    """
    report_progress = progress or (lambda _share: None)
    started_at, started = time.time(), time.monotonic()
    known = Evidence(target=target, host_keys=host_keys, installs_updates=installs_updates, sudo=tuple(sudo))
    evidence = await _gather_in_time(session, known, report_progress)
    report = Report(
        rows=evaluate(evidence),
        at=started_at,
        seconds=time.monotonic() - started,
        family=evidence.family,
        error=without_frames(evidence.error) if evidence.error else None,
    )
    report_progress(1.0)
    return report, evidence.snapshot


async def check_connection(session: ProbeSession, evidence: Evidence) -> Report:
    """Evaluate a host over the open connection of its polling, whose last reply is part of the evidence.

    One slow reply is ignored, as in `evaluate_poll`, so that this report and the repair issues agree.
    Raise HostKeyChanged or AnotherMachine if it had to be reopened and another machine answers.
    """
    started_at, started = time.time(), time.monotonic()
    facts = await _ask_facts(session)
    evidence = replace(evidence, is_connected=True, facts=facts, late_readings=LATE_READINGS)
    return Report(rows=evaluate(evidence), at=started_at, seconds=time.monotonic() - started, family=evidence.family)


async def _gather_in_time(
    session: ProbeSession, evidence: Evidence, report_progress: Callable[[float], None]
) -> Evidence:
    """Return the evidence gathered within TEST_SECONDS."""
    learned = evidence
    try:
        async with TimeLimit(TEST_SECONDS), aclosing(gather(session, evidence, report_progress)) as steps:
            async for step in steps:
                learned = step
    except TimeoutError:
        if learned.snapshot is None and learned.error is None:
            late = TimedOut(evidence.target.host, f"the test took longer than {TEST_SECONDS:g} s")
            return replace(learned, error=late)
    return learned


async def gather(
    session: ProbeSession, evidence: Evidence, report_progress: Callable[[float], None]
) -> AsyncGenerator[Evidence]:
    """Connect, run the probe once, and get the facts; yield the evidence after each step."""
    try:
        await session.connect()
    except HomelabError as err:
        yield replace(evidence, error=err)
        return
    report_progress(0.2)
    yield (evidence := replace(evidence, is_connected=True))
    yield (evidence := await _dry_run(session, evidence))
    report_progress(0.6)
    if isinstance(evidence.error, (UnsupportedSystem, AnotherMachine, *SHELL_ERRORS)):
        return  # A host that runs no commands would not answer, and another machine gets no commands.
    try:
        yield replace(evidence, facts=await _ask_facts(session))
    except ALARMS as err:
        yield replace(evidence, error=err)


async def _dry_run(session: ProbeSession, evidence: Evidence) -> Evidence:
    """Request every section once."""
    error: HomelabError | None = None
    snapshot: Snapshot | None = None
    started = time.monotonic()
    try:
        snapshot = await _first_snapshot(session, evidence.sudo)
        seconds = time.monotonic() - started
        snapshot = await _with_late_sections(session, snapshot, started + FIRST_SECONDS, evidence.sudo)
    except HomelabError as err:
        error, seconds = err, time.monotonic() - started
    return replace(
        evidence,
        host_keys=session.host_keys,
        error=error,
        snapshot=snapshot,
        poll_seconds=seconds,
        python=session.python,
        noise=session.noise,
        rtt_seconds=session.rtt_seconds or _rtt_seconds(session.connection),
    )


async def _poll(session: ProbeSession, snapshot: Snapshot, sections: list[str], sudo: Sequence[str]) -> Snapshot:
    """Return the snapshot with the reply to one poll merged into it."""
    started = time.monotonic()
    reply = await session.poll(sections, sudo=[each for each in sections if each in sudo])
    received = time.time()
    return snapshot.merged(reply, received, 0.0, sent=received - (time.monotonic() - started))


async def _first_snapshot(session: ProbeSession, sudo: Sequence[str]) -> Snapshot:
    """Return the snapshot of the first reply, however long the upload of the probe takes (the caller has a time limit).

    A probe that started and ended at the request is no slow link: sending it again would never end.
    """
    while True:
        try:
            return await _poll(session, Snapshot(), list(SECTIONS), sudo)
        except ProbeStarting as err:
            if err.died is not None:
                raise err.died from err


async def _with_late_sections(session: ProbeSession, snapshot: Snapshot, until: float, sudo: Sequence[str]) -> Snapshot:
    """Return the snapshot with late sections that arrive before `until`: a first reading often fills a cache."""
    while snapshot.late and time.monotonic() < until:
        await asyncio.sleep(AGAIN_SECONDS)
        try:
            snapshot = await _poll(session, snapshot, sorted(snapshot.late), sudo)
        except ALARMS:
            raise
        except HomelabError:
            break
    return snapshot


def _rtt_seconds(connection: Connection | None) -> float | None:
    """Return the round trip in seconds, as the kernel measured it."""
    return connection.rtt_seconds if connection else None


async def _ask_facts(session: ProbeSession) -> Facts | None:
    """Run the script; return None for a host that runs nothing but the probe (forced command).

    Raise HostKeyChanged or AnotherMachine: an answer from another machine is not silence.
    """
    try:
        connection = await session.connect()
        result = await connection.run(FACTS_COMMAND, stdin=FACTS_SCRIPT.encode(), timeout=FACTS_SECONDS)
    except ALARMS:
        raise
    except HomelabError:
        return None
    facts = parse_facts(result.stdout)
    return replace(facts, noise=result.noise or facts.noise) if facts.system else None
