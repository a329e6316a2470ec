"""How a host protects itself: each part is `ok`, a `warning`, or `unknown` with a reason."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityPart:
    """The state of one part; `reason` is a word of the contract."""

    state: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Firewall(SecurityPart):
    """Whether connections that no rule names are rejected; `backend` has whose rules do that.

    `old_rules`: sudo allows the login user only the commands of an earlier version.
    """

    backend: str | None = None
    old_rules: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SshServer(SecurityPart):
    """Who may log in how: the most permissive settings for any client.

    `conditional` has settings that differ for some clients, None if unknown.
    """

    source: str | None = None
    ports: tuple[int, ...] = ()
    root_login: str | None = None
    password_login: bool | None = None
    conditional: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessControl(SecurityPart):
    """SELinux or AppArmor."""

    kind: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail2ban(SecurityPart):
    """Number of current bans of fail2ban, by jail; `bans_unknown` is the reason why that is not known."""

    bans: int | None = None
    jails: Mapping[str, int] = field(default_factory=dict)
    bans_unknown: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AutomaticUpdates(SecurityPart):
    """Whether the system updates itself."""

    tool: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedLogins(SecurityPart):
    """How many SSH logins failed in the last hour; `lower_bound`: the log does not cover the whole hour."""

    source: str | None = None
    count: int | None = None
    lower_bound: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """The parts; one that is not available is None."""

    firewall: Firewall | None = None
    ssh: SshServer | None = None
    access_control: AccessControl | None = None
    fail2ban: Fail2ban | None = None
    automatic_updates: AutomaticUpdates | None = None
    failed_logins: FailedLogins | None = None
