"""The checks of a host: what it can report, and what prevents that.

`evaluate` turns evidence into one row per check. It is pure and strict: a check without evidence is `unknown`, never
`ok`, so that what was not answered counts as neither broken nor fixed. The same functions evaluate the capability test
and, with less evidence, every reply of the polling.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from ..errors import (
    AnotherMachine,
    BadReply,
    ChannelRefused,
    CommandNotRun,
    ConnectionLost,
    HomelabError,
    HostKeyChanged,
    KeyRefused,
    LoginRefused,
    NoPython,
    OldForcedCommand,
    ProbeFailed,
    PythonIncomplete,
    SessionRefused,
    UnsupportedSystem,
    first_line,
)
from ..models import Gpu
from ..probe.snapshot import Snapshot
from ..tracking.values import gpus
from ..transport.keys import fingerprint
from ..transport.target import Target
from .host_facts import (
    SYSTEMD_FAMILIES,
    Access,
    Engine,
    Facts,
    Family,
    Privilege,
    family_of,
)
from .report import CheckResult, CheckStatus, Verdict
from .updates_rule import evaluate_updates_rule

CLOCK_LIMIT_SECONDS = 60.0
_DAY_SECONDS = 86400.0
LATE_READINGS = 3
"""How many readings of a section in a row must be late before polls report it."""
_SHOWN = 4
"""How many names of sections, GPUs or disks a row lists."""

_LOGIN_ERRORS = (HostKeyChanged, KeyRefused, LoginRefused)
_PYTHON_ERRORS = (NoPython, PythonIncomplete)
SHELL_ERRORS = (CommandNotRun, OldForcedCommand, SessionRefused)
_BEFORE_THE_PROBE = (UnsupportedSystem, AnotherMachine, *_PYTHON_ERRORS, *SHELL_ERRORS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known when a host is evaluated; None means not known."""

    target: Target
    host_keys: tuple[str, ...] = ()
    is_connected: bool = False
    error: HomelabError | None = None
    rtt_seconds: float | None = None
    python: tuple[str, str] | None = None
    noise: str | None = None
    snapshot: Snapshot | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)
    """How many items have no room in the inventory, by section."""
    poll_seconds: float | None = None
    facts: Facts | None = None
    installs_updates: bool
    """Whether the option for installing updates is on."""
    sudo: tuple[str, ...]
    """The sections for which the option for passwordless sudo is on; they were requested with it."""
    late_readings: int = 1
    """How many readings of a section in a row must be late to count."""

    @property
    def family(self) -> Family:
        """Return the family of systems that the host belongs to."""
        if isinstance(self.error, UnsupportedSystem) and self.error.placeholders["system"] == "Windows":
            return Family.WINDOWS
        if self.facts is not None and self.facts.system:
            return self.facts.family
        system = self.snapshot.sections.system if self.snapshot else None
        return family_of(system.os_id, system.os_id_like) if system else Family.OTHER

    @property
    def has_systemd(self) -> bool:
        """Return whether systemd is PID 1, True if that is not known."""
        if self.facts is not None and self.facts.is_complete:
            return bool(self.facts.systemd)
        system = self.snapshot.sections.system if self.snapshot else None
        return system is None or system.init in (None, "", "systemd")


@dataclass(frozen=True, slots=True)
class Check:
    """One row of the capability test."""

    key: str
    evaluate_fn: Callable[[Evidence], Verdict]


_UNKNOWN = Verdict(CheckStatus.UNKNOWN, "not_tested")


def evaluate(evidence: Evidence) -> tuple[CheckResult, ...]:
    """Return a row for every check."""
    return tuple(CheckResult.of(check.key, _applicable(check.evaluate_fn(evidence), evidence)) for check in CHECKS)


_OF_SYSTEMD = frozenset({"set_clock", "start_docker", "start_podman"})
"""Remedies that need systemd, in the families that usually run it."""


def _applicable(verdict: Verdict, evidence: Evidence) -> Verdict:
    """Return the verdict, without a remedy that cannot work: in a container systemd often does not run."""
    runs_systemd = evidence.family not in SYSTEMD_FAMILIES or evidence.has_systemd
    return verdict if runs_systemd or verdict.remedy not in _OF_SYSTEMD else replace(verdict, remedy=None)


def evaluate_poll(evidence: Evidence) -> tuple[CheckResult, ...]:
    """Return the rows that one poll can show; silence and refused logins are a state of the host, not a row."""
    if evidence.error is None:
        return evaluate(replace(evidence, is_connected=True, late_readings=LATE_READINGS))
    if evidence.error.hard or isinstance(evidence.error, (ProbeFailed, BadReply, ChannelRefused)):
        return evaluate(replace(evidence, is_connected=not isinstance(evidence.error, HostKeyChanged), snapshot=None))
    return ()


def _reachable(evidence: Evidence) -> Verdict:
    """Evaluate the network path to the host."""
    if evidence.is_connected:
        rtt = evidence.rtt_seconds
        return (
            Verdict(CheckStatus.OK, "answers_in", {"milliseconds": _rounded(max(rtt * 1000, 0.1))}) if rtt else _ANSWERS
        )
    if isinstance(evidence.error, (*_LOGIN_ERRORS, ChannelRefused)):
        return _ANSWERS
    if evidence.error is None:
        return _UNKNOWN
    remedy = "start_sshd" if evidence.error.key == "connection_refused" else None
    return Verdict(CheckStatus.RED, evidence.error.key, _of_error(evidence), remedy)


_ANSWERS = Verdict(CheckStatus.OK, "answers")


def _host_key(evidence: Evidence) -> Verdict:
    """Evaluate the host key of the machine that answers."""
    if isinstance(evidence.error, HostKeyChanged):
        return Verdict(CheckStatus.RED, "host_key_changed", _of_error(evidence), "accept_host_key")
    if evidence.is_connected or isinstance(evidence.error, (KeyRefused, LoginRefused)):
        return Verdict(
            CheckStatus.OK, "host_key_pinned", {"fingerprint": ", ".join(map(fingerprint, evidence.host_keys))}
        )
    return _UNKNOWN


def _login(evidence: Evidence) -> Verdict:
    """Evaluate the login with our key."""
    if isinstance(evidence.error, (KeyRefused, LoginRefused)):
        return Verdict(CheckStatus.RED, evidence.error.key, _of_error(evidence), "authorize")
    if evidence.is_connected:
        return Verdict(CheckStatus.OK, "logged_in", {"username": evidence.target.username})
    return _UNKNOWN


def _system(evidence: Evidence) -> Verdict:
    """Evaluate whether the probe supports this system."""
    if isinstance(evidence.error, AnotherMachine):
        return Verdict(CheckStatus.RED, "another_machine", _of_error(evidence))
    if isinstance(evidence.error, UnsupportedSystem):
        return Verdict(CheckStatus.RED, "not_supported", _of_error(evidence))
    if evidence.facts and evidence.facts.system != "Linux":
        return Verdict(CheckStatus.RED, "not_supported", {"system": evidence.facts.os_name})
    system = evidence.snapshot.sections.system if evidence.snapshot else None
    if system:
        parts = [_with_version(system.os_name or system.os_id, system.os_version), system.init, system.architecture]
    elif evidence.facts:
        init = "systemd" if evidence.facts.systemd else ""
        parts = [evidence.facts.os_name, init, evidence.facts.architecture]
    else:
        return _UNKNOWN
    return Verdict(CheckStatus.OK, "system_known", {"system": first_line(" · ".join(part for part in parts if part))})


def _with_version(name: str | None, version: str | None) -> str:
    """Return name and version, without repeating a version that is part of the name."""
    name = name or "Linux"
    return name if not version or version in name else f"{name} {version}"


def _shell(evidence: Evidence) -> Verdict:
    """Evaluate whether the login shell runs our commands and prints nothing else."""
    if isinstance(evidence.error, OldForcedCommand):
        return Verdict(CheckStatus.RED, "old_forced_command", {}, "renew_forced_command")
    if isinstance(evidence.error, SessionRefused):
        return Verdict(CheckStatus.RED, "session_refused", _of_error(evidence))
    if isinstance(evidence.error, CommandNotRun):
        placeholders, words = _of_error(evidence), evidence.error.detail
        return Verdict(
            CheckStatus.RED, "command_not_run_said" if words else "command_not_run", placeholders, "plain_shell"
        )
    if noise := evidence.noise or (evidence.facts.noise if evidence.facts else ""):
        return _noise(noise, evidence.facts.shell if evidence.facts else "")
    if evidence.snapshot or (evidence.facts and evidence.facts.is_complete):
        return Verdict(CheckStatus.OK, "shell_quiet")
    return _UNKNOWN


def _noise(line: str, shell: str) -> Verdict:
    """Return the row of a login shell that prints text, with the shell's name if the facts have it."""
    if shell:
        return Verdict(CheckStatus.AMBER, "shell_noise_of", {"line": line, "shell": shell}, "quiet_shell")
    return Verdict(CheckStatus.AMBER, "shell_noise", {"line": line}, "quiet_shell")


def _python(evidence: Evidence) -> Verdict:
    """Evaluate the Python interpreter."""
    if isinstance(evidence.error, _PYTHON_ERRORS):
        return Verdict(CheckStatus.RED, evidence.error.key, _of_error(evidence), "install_python")
    if evidence.python:
        return Verdict(CheckStatus.OK, "python_found", dict(zip(("version", "path"), evidence.python, strict=True)))
    return _UNKNOWN


def _probe(evidence: Evidence) -> Verdict:
    """Evaluate the dry run."""
    if evidence.snapshot:
        return _sections(evidence.snapshot, evidence.poll_seconds, evidence.late_readings)
    if not evidence.is_connected or isinstance(evidence.error, _BEFORE_THE_PROBE):
        return _UNKNOWN
    if isinstance(evidence.error, ConnectionLost):
        return Verdict(CheckStatus.RED, "connection_lost", _of_error(evidence))  # That says nothing about the probe.
    return Verdict(CheckStatus.RED, "probe_failed", _of_error(evidence)) if evidence.error else _UNKNOWN


def _sections(snapshot: Snapshot, seconds: float | None, late_readings: int) -> Verdict:
    """Evaluate which sections answered; a broken GPU has a row of its own."""
    late = sorted(name for name, count in snapshot.late.items() if count >= late_readings)
    if late:
        return Verdict(CheckStatus.AMBER, "section_timed_out", {"sections": _listed(late)})
    failed = sorted(snapshot.errors.keys() - {"gpu", "gpu_processes"})
    if failed:
        placeholders = {"sections": _listed(failed), "detail": first_line(snapshot.errors[failed[0]])}
        return Verdict(CheckStatus.AMBER, "section_failed", placeholders)
    return Verdict(CheckStatus.OK, "probe_ran", {"seconds": f"{seconds or 0:.2f}", "count": str(len(snapshot.ages))})


def _too_much(evidence: Evidence) -> Verdict:
    """Evaluate whether all that the host reports is within our limits."""
    if evidence.snapshot is None:
        return _UNKNOWN
    beyond = Counter(evidence.snapshot.beyond) + Counter(evidence.left_out)
    if not beyond:
        return Verdict(CheckStatus.OK, "within_limits")
    return Verdict(
        CheckStatus.AMBER, "beyond_limits", {"sections": _listed(sorted(beyond)), "count": str(sum(beyond.values()))}
    )


def _proc(evidence: Evidence) -> Verdict:
    """Evaluate whether /proc can be read."""
    if evidence.snapshot is None:
        return _UNKNOWN
    uptime = evidence.snapshot.sections.uptime
    if uptime:
        return _uptime(uptime.uptime_seconds)
    detail = evidence.snapshot.errors.get("uptime") or evidence.snapshot.missing.get("uptime", "")
    return Verdict(CheckStatus.AMBER, "proc_unreadable", {"detail": first_line(detail)})


def _uptime(seconds: float) -> Verdict:
    """Return the row of a host's uptime, on its first day to the minute."""
    if seconds >= _DAY_SECONDS:
        return Verdict(CheckStatus.OK, "uptime", {"days": f"{seconds / _DAY_SECONDS:.1f}"})
    hours, minutes = divmod(int(seconds) // 60, 60)
    return Verdict(CheckStatus.OK, "uptime_today", {"hours": str(hours), "minutes": str(minutes)})


def _clock(evidence: Evidence) -> Verdict:
    """Compare the host's clock with ours."""
    if evidence.snapshot is None:
        return _UNKNOWN
    offset = evidence.snapshot.clock_offset_seconds
    if abs(offset) <= CLOCK_LIMIT_SECONDS:
        return Verdict(CheckStatus.OK, "clock_right", {"seconds": f"{round(offset, 1) + 0.0:+.1f}"})
    reason = "clock_fast" if offset > 0 else "clock_slow"
    return Verdict(CheckStatus.AMBER, reason, {"seconds": f"{abs(offset):.0f}"}, "set_clock")


def _docker(evidence: Evidence) -> Verdict:
    """Evaluate the access to Docker."""
    if evidence.facts is None:
        return _UNKNOWN
    engine = evidence.facts.docker
    username = {"username": evidence.target.username}
    match engine.access:
        case Access.ABSENT:
            return Verdict(CheckStatus.INFO, "docker_not_installed")
        case Access.DENIED:
            return Verdict(CheckStatus.AMBER, "docker_denied", username, "join_docker")
        case Access.STOPPED:
            return Verdict(CheckStatus.AMBER, "docker_stopped", {"detail": engine.error}, "start_docker")
        case Access.LATE:
            # One slow answer would be a repair for a day; polls find out if it stays late.
            return Verdict(CheckStatus.UNKNOWN, "docker_late")
    return _usable("docker", engine)


def _podman(evidence: Evidence) -> Verdict:
    """Evaluate the access to Podman, which many systems include and few people use."""
    if evidence.facts is None:
        return _UNKNOWN
    engine = evidence.facts.podman
    match engine.access:
        case Access.ABSENT:
            return Verdict(CheckStatus.INFO, "podman_not_installed")
        case Access.DENIED:
            return Verdict(CheckStatus.AMBER, "podman_denied", {"username": evidence.target.username})
        case Access.STOPPED:
            unused = Verdict(CheckStatus.INFO, "podman_unused")
            return Verdict(CheckStatus.AMBER, "podman_stopped", {}, "start_podman") if engine.has_containers else unused
        case Access.LATE:
            return Verdict(CheckStatus.UNKNOWN, "podman_late")
    return _usable("podman", engine)


def _usable(name: str, engine: Engine) -> Verdict:
    """Return the row of an engine that answers."""
    if engine.version:
        return Verdict(CheckStatus.OK, f"{name}_version", {"version": engine.version})
    return Verdict(CheckStatus.OK, f"{name}_usable")


def _systemd(evidence: Evidence) -> Verdict:
    """Evaluate whether services can be read."""
    if evidence.facts is None or not evidence.facts.is_complete:
        return _UNKNOWN
    if evidence.facts.systemd:
        return Verdict(CheckStatus.OK, "systemd_version", {"version": evidence.facts.systemd})
    return Verdict(CheckStatus.INFO, "no_systemd")


def _gpu(evidence: Evidence) -> Verdict:
    """Evaluate the GPUs: broken is not absent."""
    snapshot = evidence.snapshot
    if snapshot is None:
        return _UNKNOWN
    if error := snapshot.errors.get("gpu"):
        return Verdict(CheckStatus.AMBER, "gpu_broken", {"detail": first_line(error)}, "restart_host")
    if snapshot.sections.gpu:
        return _cards(gpus(snapshot))
    if snapshot.missing.get("gpu") in ("not_installed", "not_supported"):
        return Verdict(CheckStatus.INFO, "gpu_none")
    if snapshot.missing.get("gpu") == "permission_denied":
        return Verdict(CheckStatus.AMBER, "gpu_denied", {"username": evidence.target.username})
    return _UNKNOWN


def _cards(cards: tuple[Gpu, ...]) -> Verdict:
    """Judge the cards that the driver tells of."""
    lost = [gpu.name for gpu in cards if gpu.state == "lost"]
    if lost:
        return Verdict(CheckStatus.AMBER, "gpu_lost", {"cards": _listed(lost)}, "restart_host")
    return Verdict(CheckStatus.OK, "gpu_found", {"cards": _listed([gpu.name for gpu in cards])})


def _smart(evidence: Evidence) -> Verdict:
    """Evaluate whether the health of the disks can be read."""
    if evidence.facts is None or not evidence.facts.is_complete:
        return _UNKNOWN
    smart = evidence.facts.smart
    if not smart.tool:
        return Verdict(CheckStatus.INFO, "smart_not_installed")
    if smart.denied:
        # Nothing reads it yet, so no root rights are requested for it: no remedy.
        return Verdict(CheckStatus.INFO, "smart_denied", {"disks": _listed(list(smart.denied))})
    if smart.late:
        return Verdict(CheckStatus.UNKNOWN, "smart_late", {"disks": _listed(list(smart.late))})
    if not smart.readable:
        return Verdict(CheckStatus.INFO, "smart_no_disks")
    return Verdict(CheckStatus.OK, "smart_readable", {"disks": _listed(list(smart.readable))})


def _firewall(evidence: Evidence) -> Verdict:
    """Evaluate whether the firewall's rules can be read in the current way; most users leave them unreadable.

    If the option allows sudo for it and reading is still denied, the rule is missing.
    """
    security = evidence.snapshot.sections.security if evidence.snapshot else None
    part = security.firewall if security else None
    if part is None:
        return _UNKNOWN
    if part.old_rules:
        return Verdict(
            CheckStatus.AMBER, "firewall_rules_old", {"username": evidence.target.username}, "allow_firewall"
        )
    if part.reason == "permission_denied" and "security" in evidence.sudo:
        return Verdict(
            CheckStatus.AMBER, "firewall_rule_missing", {"username": evidence.target.username}, "allow_firewall"
        )
    return _FIREWALL.get(part.reason, Verdict(CheckStatus.INFO, "firewall_unreadable"))


_FIREWALL_READ = Verdict(CheckStatus.OK, "firewall_readable")
_FIREWALL = {
    "permission_denied": Verdict(CheckStatus.INFO, "firewall_denied"),
    "no_tool": Verdict(CheckStatus.INFO, "firewall_no_tool"),
    "active": _FIREWALL_READ,
    "inactive": _FIREWALL_READ,
    "some_rules": _FIREWALL_READ,
}


def _sudo(evidence: Evidence) -> Verdict:
    """Return the row for how a command becomes root."""
    if evidence.facts is None or not evidence.facts.is_complete or evidence.facts.privilege is None:
        return _UNKNOWN
    return Verdict(CheckStatus.INFO, _PRIVILEGE_REASONS[evidence.facts.privilege])


_PRIVILEGE_REASONS = {
    Privilege.ROOT: "sudo_is_root",
    Privilege.SUDO: "sudo_passwordless",
    Privilege.SUDO_PASSWORD: "sudo_asks_password",
    Privilege.DOAS: "sudo_doas",
    Privilege.NONE: "sudo_none",
}


def _updates_rule(evidence: Evidence) -> Verdict:
    """Evaluate the script and rule that allow installing updates."""
    sections = evidence.snapshot.sections if evidence.snapshot else None
    updates, system = (sections.updates, sections.system) if sections else (None, None)
    return evaluate_updates_rule(evidence.facts, updates, system, is_wanted=evidence.installs_updates)


CHECKS: tuple[Check, ...] = (
    Check("reachable", _reachable),
    Check("host_key", _host_key),
    Check("login", _login),
    Check("system", _system),
    Check("shell", _shell),
    Check("python", _python),
    Check("probe", _probe),
    Check("too_much", _too_much),
    Check("proc", _proc),
    Check("clock", _clock),
    Check("docker", _docker),
    Check("podman", _podman),
    Check("systemd", _systemd),
    Check("gpu", _gpu),
    Check("smart", _smart),
    Check("firewall", _firewall),
    Check("sudo", _sudo),
    Check("updates_rule", _updates_rule),
)


def _of_error(evidence: Evidence) -> dict[str, str]:
    """Return the placeholders of the error, with address and username of the host."""
    error = evidence.error
    return (dict(error.placeholders) if error else {}) | {
        "address": evidence.target.address,
        "username": evidence.target.username,
    }


def _listed(names: list[str]) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - _SHOWN
    return first_line(", ".join(names[:_SHOWN])) + (f" +{more}" if more > 0 else "")


def _rounded(value: float) -> str:
    """Return a number with one decimal below 10, else without."""
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"  # noqa: PLR2004
