"""The firewall, a part of the section security: whether connections that no rule allows are blocked.

Only the kernel's rules show that: an enabled ufw or firewalld does not prove that its rules are loaded, nor what they
are. nft comes first. iptables is read for what nft cannot show: the rules of iptables-legacy, and those of iptables-nft
of which nft only shows the name of the extension (xt).
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import Host, Json, Request
    from .firewall_iptables import IPTABLES_HOOKS, parse_iptables
    from .firewall_nft import parse_nft_json
    from .firewall_rules import CLOSED, OPEN, PARTLY, PORTS, VAGUE, Table, Visitor, evaluate
    from .firewall_text import parse_nft_text
    from .installed import PROGRAM_FOLDERS, has_program
    from .network import default_routes, primary_interface
    from .verdicts import Unknown, as_root, is_running, run_as_root, verdict

NFT_JSON = ["nft", "-j", "list", "ruleset"]
NFT_LIST = ["nft", "list", "ruleset"]  # allowed by sudo rules of earlier versions
IPTABLES_LIST = ["iptables", "-S"]  # the same; of IPv4 and the table filter alone
IPTABLES_SAVE = {4: ["iptables-save"], 6: ["ip6tables-save"]}
LEGACY_SAVE = {4: ["iptables-legacy-save"], 6: ["ip6tables-legacy-save"]}
LEGACY_MARKS = {4: "/proc/net/ip_tables_names", 6: "/proc/net/ip6_tables_names"}
IPTABLES_FAMILIES = {4: "ip", 6: "ip6"}
LEGACY_WARNING = "legacy tables present"


class Ruleset:
    """The readable rules, and the reasons why others are missing, by IP version."""

    def __init__(self, host: "Host", request: "Request", visitors: "list[Visitor]") -> None:
        self.host = host
        self.request = request
        self.visitors = visitors
        self.tables = []  # type: list[Table]
        self.gaps = {}  # type: dict[int, str]
        self.has_nft = False
        self.is_old = False  # whether the sudo rules are those of an earlier version

    def level(self, version: int) -> "tuple[str, Table | None]":
        """Return what happens to strangers of one IP version, and the table that decides."""
        found = [evaluate(self.tables, one) for one in self.visitors if one.version == version]
        levels = {level for level, _ in found}
        return (VAGUE if VAGUE in levels else PARTLY, None) if len(levels) > 1 else found[0]

    def is_closed(self) -> bool:
        """Return whether all strangers are blocked, whatever rules may be missing."""
        return all(evaluate(self.tables, one)[0] == CLOSED for one in self.visitors)

    def read(self) -> None:
        """Read rules until the result is certain."""
        try:
            self.tables = self.read_nft()
            self.has_nft = True
        except Unknown as err:
            if err.reason != "not_installed":
                self.gaps.update((one.version, err.reason) for one in self.visitors)
        for version in sorted({one.version for one in self.visitors}):
            if not self.is_closed():
                self.read_iptables(version)

    def read_nft(self) -> "list[Table]":
        """Return nft's tables: from JSON, else from text if only that is allowed or supported."""
        try:
            return parse_nft_json(as_root(self.host, self.request, NFT_JSON))
        except Unknown as err:
            if err.reason not in ("permission_denied", "unreadable"):
                raise
            try:
                tables = parse_nft_text(as_root(self.host, self.request, NFT_LIST))
            except Unknown:
                raise err from None
            self.is_old = not self.host.is_root()
            return tables

    def read_iptables(self, version: int) -> None:
        """Add the rules of iptables that nft did not show."""
        kind = iptables_kind(self.host, version)
        if kind is None or not self.is_needed(version, kind):
            return
        try:
            output, errors = self.ask_iptables(version)
        except Unknown as err:
            self.gaps.setdefault(version, err.reason)
            return
        tables = parse_iptables(output, IPTABLES_FAMILIES[version])
        if "(nf_tables)" in output or kind == "nft":
            known = {(table.family, table.name) for table in tables}
            self.tables = [one for one in self.tables if (one.family, one.name) not in known]
        self.tables += tables
        if LEGACY_WARNING in errors:
            self.read_legacy(version)

    def is_needed(self, version: int, kind: str) -> bool:
        """Return whether iptables could add rules. The legacy one has none while its module is not loaded."""
        is_legacy_loaded = self.host.exists(LEGACY_MARKS[version])
        if kind == "legacy" or is_legacy_loaded:
            return is_legacy_loaded
        return kind != "nft" or not self.has_nft or self.level(version)[0] == VAGUE

    def ask_iptables(self, version: int) -> "tuple[str, str]":
        """Return the output and warnings of iptables-save, or of `iptables -S` with an older sudo rule."""
        is_old_way = self.is_old or not has_program(self.host, IPTABLES_SAVE[version][0])
        if not is_old_way:
            try:
                output, errors = run_as_root(self.host, self.request, IPTABLES_SAVE[version])
                if output.count("\n*") + output.startswith("*") != output.count("\nCOMMIT"):
                    raise Unknown("unreadable")
                return output, errors
            except Unknown as err:
                # Each refusal may be a failed login to sudo: if both nft commands were refused, there is no older rule.
                if err.reason != "permission_denied" or self.host.is_root() or version in self.gaps:
                    raise
        if version == 6:
            raise Unknown("permission_denied")
        result = run_as_root(self.host, self.request, IPTABLES_LIST)
        self.is_old = not self.host.is_root()
        return result

    def read_legacy(self, version: int) -> None:
        """Add the rules of iptables-legacy if it is used beside iptables-nft; never with sudo."""
        try:
            if not self.host.is_root():
                raise Unknown("permission_denied")
            self.tables += parse_iptables(
                as_root(self.host, self.request, LEGACY_SAVE[version]), IPTABLES_FAMILIES[version]
            )
        except Unknown as err:
            self.gaps.setdefault(version, err.reason)


def iptables_kind(host: "Host", version: int) -> "str | None":
    """Return the kind of iptables: `nft`, `legacy`, "" if unknown, None if it is not installed."""
    for name in (IPTABLES_SAVE[version][0], *(["iptables"] if version == 4 else [])):
        if has_program(host, name):
            real = next(host.real_path(folder + name) for folder in PROGRAM_FOLDERS if host.exists(folder + name))
            return "nft" if real.endswith("nft-multi") else "legacy" if real.endswith("-multi") else ""
    return None


def strangers(host: "Host") -> "list[Visitor]":
    """Return the visitors to test: over IPv4, and over IPv6 if this host has an address reachable from elsewhere."""
    routes = default_routes(host)
    try:
        addresses = [one for one in host.addresses() if one["scope"] == "global" and one["interface"] != "lo"]
    except OSError:
        return [Visitor(4, primary_interface(routes), None, ports) for ports in PORTS]
    names = {one["interface"] for one in addresses}
    found = []  # type: list[Visitor]
    for version in (4, 6):
        interface = routes.get(version, (primary_interface(routes), ""))[0] or (names.pop() if len(names) == 1 else "")
        own = [one for one in addresses if one["version"] == version and interface in ("", one["interface"])]
        if own:
            found.extend(Visitor(version, interface, [one["address"] for one in own], ports) for ports in PORTS)
    return found or [Visitor(4, primary_interface(routes), None, ports) for ports in PORTS]


def firewall(host: "Host", request: "Request") -> "Json":
    """Return whether strangers are blocked: all of them, over each IP version, by the kernel's own rules."""
    rules = Ruleset(host, request, strangers(host))
    rules.read()
    there = "ufw" if host.exists("/etc/ufw/ufw.conf") else None
    if has_program(host, "firewalld") or is_running(host, "firewalld"):
        there = there or "firewalld"
    # With an older sudo rule, only iptables for IPv4 can be read.
    versions = {one.version for one in rules.visitors if one.version == 4 or not (rules.is_old and 6 in rules.gaps)}
    levels_by_version = {version: rules.level(version) for version in sorted(versions)}
    levels = {level for level, _ in levels_by_version.values()}
    more = {"backend": there, "old_rules": rules.is_old or None}
    if levels == {CLOSED}:
        return verdict("ok", "active", **dict(more, backend=backend_of(levels_by_version[min(versions)][1])))
    if not has_program(host, "nft") and iptables_kind(host, 4) is None:
        return verdict("unknown", "no_tool", **more)
    for version, (level, _) in levels_by_version.items():
        if level != CLOSED and (level == VAGUE or version in rules.gaps):
            return verdict("unknown", rules.gaps.get(version, "unreadable"), **more)
    if levels == {OPEN}:
        return verdict("warning", "inactive", **more)
    return verdict("unknown", "some_rules", **more)


def backend_of(table: "Table | None") -> "str | None":
    """Return the tool that made a table, by the names of its chains: ufw, firewalld or iptables, else its source."""
    if table is None:
        return None
    if any(name.startswith(("ufw-user-", "ufw6-user-")) for name in table.chains):
        return "ufw"
    is_firewalld = table.name.startswith("firewalld") or "INPUT_ZONES" in table.chains
    if is_firewalld:
        return "firewalld"
    return "iptables" if any(chain in IPTABLES_HOOKS for chain, *_ in table.bases) else table.source
