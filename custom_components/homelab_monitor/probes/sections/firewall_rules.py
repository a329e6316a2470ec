"""What a firewall's rules do to a stranger, a part of the section security: pure functions, without access to the host.

A stranger is a new TCP connection to this host through the interface of the default route, from an address and to a
port that no rule names. A rule matches it (FIT), cannot match it (NO_FIT), matches only some connections of its kind
(SOME_FIT: it names a port, a protocol, one of several own addresses), matches it but not those (MOST_FIT), or contains
something unknown (UNCLEAR_FIT). A rule that names a source address is an exception for somebody else, a ban or a trust,
and so never matches.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    # A condition: key, whether it is negated, values. A rule: conditions, action, target chain.
    Condition = tuple[str, bool, list[str]]
    Rule = tuple[list[Condition], str, str]

NO_FIT, UNCLEAR_FIT, SOME_FIT, MOST_FIT, FIT = range(5)  # the least of several conditions counts
ACCEPT, DROP, JUMP, GOTO, RETURN, MARK, ANYTHING = "accept", "drop", "jump", "goto", "return", "mark", "anything"
THROUGH, OTHERS = "through", "others"  # the stranger continues; only connections that some rule names continue
CLOSED, VAGUE, PARTLY, OPEN = "closed", "vague", "partly", "open"
HOOKS = ("ingress", "prerouting", "input")  # in the order in which a packet meets them
FAMILIES = {4: ("ip", "inet", "netdev", "bridge", "arp"), 6: ("ip6", "inet", "netdev", "bridge")}
DEEPEST = 64
TRACKED_FROM = (HOOKS.index("prerouting"), -200)  # NF_IP_PRI_CONNTRACK; before it, the state is invalid for nft
WORDS_OF_VERSION = {4: {"4", "ip", "ipv4", "2048"}, 6: {"6", "ip6", "ipv6", "34525"}}
EVERY_PROTOCOL = {"all", "0"}
TCP, OTHER_PORTS = {"tcp", "6"}, {"udp", "17", "udplite", "136", "sctp", "132", "dccp", "33"}
CALLERS_PORTS = (32768, 60999)  # Linux' default of ip_local_port_range (ip(7))
PORTS = ((1, 1023), (1024, 65535))  # system services, and all others: rules open or close either range as a whole
NEARLY_ALL = 0.9


class Table:
    """A table of rules: the rules of each chain, and its base chains, where packets enter."""

    def __init__(self, family: str, name: str, source: str) -> None:
        self.family = family
        self.name = name
        self.source = source
        self.chains = {}  # type: dict[str, list[Rule]]
        self.bases = []  # type: list[tuple[str, int, int, str, list[str] | None]]
        self.sets = {}  # type: dict[str, Any]
        self.is_asleep = False  # type: bool | None  # None: it may be

    def add_base(self, chain: str, hook: str, priority: int, policy: str, devices: "list[str] | None" = None) -> None:
        """Add a base chain, if its hook sees packets for this host."""
        if hook in HOOKS:
            self.bases.append((chain, HOOKS.index(hook), priority, policy, devices))


class Visitor:
    """The stranger: IP version, interface, our addresses there (None if unknown), and the range of its port."""

    def __init__(
        self,
        version: int,
        interface: str = "",
        addresses: "list[str] | None" = None,
        ports: "tuple[int, int]" = (1, 65535),
    ) -> None:
        self.version = version
        self.interface = interface
        self.addresses = addresses
        self.ports = ports
        self.marked = NO_FIT  # how certainly a rule has set a mark
        self.is_tracked = True


# ---------------------------------------------------------------- one condition


def fitted(is_so: bool, is_not: bool) -> int:
    """Return FIT or NO_FIT for a condition that is certainly true or false."""
    return FIT if is_so != is_not else NO_FIT


def bounds(value: str) -> "tuple[int, int] | None":
    """Return the first and the last of a range of numbers.

    22, 1024-65535, 1024:
    """
    first, dash, last = value.replace(":", "-").partition("-")
    try:
        return int(first or 0), int(last or 65535) if dash else int(first)
    except ValueError:
        return None


def share(values: "list[str]", ports: "tuple[int, int]") -> float:
    """Return the fraction of a port range that the values cover."""
    first, last = ports
    ranges = [pair for pair in map(bounds, values) if pair]
    return sum(max(0, min(last, high) - max(first, low) + 1) for low, high in ranges) / (last - first + 1)


def fits_interface(visitor: Visitor, is_not: bool, values: "list[str]") -> int:
    """Compare the interface's name; `eth*` and `eth+` are prefixes."""
    mine = visitor.interface
    return fitted(any(mine.startswith(one[:-1]) if one[-1:] in ("*", "+") else mine == one for one in values), is_not)


def fits_source(_: Visitor, is_not: bool, values: "list[str]") -> int:
    """Compare the source: only a rule for all addresses names the stranger's."""
    return fitted(any(one.endswith("/0") for one in values), is_not)


def fits_source_port(_: Visitor, is_not: bool, values: "list[str]") -> int:
    """Compare the source port, which is any of those that Linux gives callers."""
    return fitted(share(values, CALLERS_PORTS) >= NEARLY_ALL, is_not)


def fits_port(visitor: Visitor, is_not: bool, values: "list[str]") -> int:
    """Compare the port: a named port is not the stranger's, but nearly all ports, or all except named ones, include it."""
    held = share(values, visitor.ports)
    if held >= 1:
        return fitted(True, is_not)
    return MOST_FIT if (held >= NEARLY_ALL) != is_not else SOME_FIT


def fits_protocol(_: Visitor, is_not: bool, values: "list[str]") -> int:
    """Compare the protocol, which is TCP; UDP also has ports that matter, ICMP has none."""
    others, every = OTHER_PORTS.intersection(values), EVERY_PROTOCOL.intersection(values)
    if TCP.intersection(values) or every:
        is_all = bool(others or every)
        return (NO_FIT if is_all else SOME_FIT) if is_not else FIT if is_all else MOST_FIT
    if others:
        return MOST_FIT if is_not else SOME_FIT
    return fitted(False, is_not)


def fits_version(visitor: Visitor, is_not: bool, values: "list[str]") -> int:
    """Compare the IP version."""
    return fitted(bool(WORDS_OF_VERSION[visitor.version].intersection(values)), is_not)


def number_of(address: str, version: int) -> "int | None":
    """Return an address as a number, None if it is none of this IP version."""
    import socket  # noqa: PLC0415

    try:
        return int.from_bytes(socket.inet_pton(socket.AF_INET6 if version == 6 else socket.AF_INET, address), "big")
    except (OSError, ValueError):
        return None


def holds(value: str, address: str, version: int) -> bool:
    """Return whether an address equals or lies in the address, network or range that a rule names.

    192.0.2.1, 192.0.2.0/24, 192.0.2.1-192.0.2.9
    """
    bits, mine = (128 if version == 6 else 32), number_of(address, version)
    first, dash, last = value.partition("-")
    name, _, length = first.partition("/")
    low, high = number_of(name, version), number_of(last, version)
    if mine is None or low is None:
        return False
    if dash:
        return high is not None and low <= mine <= high
    shift = bits - int(length) if length.isdigit() and int(length) <= bits else 0
    return mine >> shift == low >> shift


def fits_destination(visitor: Visitor, is_not: bool, values: "list[str]") -> int:
    """Compare our own addresses: rules for addresses of containers, or multicast, do not concern us."""
    if any(one.endswith("/0") for one in values):
        return fitted(True, is_not)
    mine = visitor.addresses
    if not mine or any(one.startswith("@") for one in values):
        return UNCLEAR_FIT
    fitting = [any(holds(one, address, visitor.version) for one in values) for address in mine]
    return SOME_FIT if any(fitting) and not all(fitting) else fitted(any(fitting), is_not)


def fits_mark(visitor: Visitor, is_not: bool, values: "list[str]") -> int:
    """Compare a mark, which is 0 until a rule sets another one."""
    try:
        is_fitting = fitted(any(int(one.partition("/")[0], 0) == 0 for one in values), is_not)
    except ValueError:
        return UNCLEAR_FIT
    # If other connections of its kind are marked, a mark matches some.
    return max(is_fitting, SOME_FIT) if visitor.marked == SOME_FIT else UNCLEAR_FIT if visitor.marked else is_fitting


def fits_flags(_: Visitor, is_not: bool, values: "list[str]") -> int:
    """Compare the TCP flags, only SYN for a stranger: `mask=flags`, or `=flags` if any of them is enough."""
    mask, _equals, flags = values[0].lower().partition("=")
    wanted = {one for one in flags.split(",") if one not in ("", "none", "0", "0x0")}
    looked_at = {one for one in mask.split(",") if one}
    if not looked_at:
        return fitted("syn" in wanted, is_not)
    return fitted((looked_at & {"syn"} if "all" not in looked_at else {"syn"}) == wanted, is_not)


def fits_state(visitor: Visitor, is_not: bool, values: "list[str]") -> int:
    """Compare the connection's state: new, or invalid before connections are tracked."""
    return fitted(("new" if visitor.is_tracked else "invalid") in (word.lower() for word in values), is_not)


def among(*mine: str) -> "Any":
    """Return a function that compares words, of which `mine` are true for the stranger."""
    return lambda _, is_not, values: fitted(not set(mine).isdisjoint(word.lower() for word in values), is_not)


FITS = {
    "interface": fits_interface,
    "source": fits_source,
    "source_port": fits_source_port,
    "destination": fits_destination,
    "port": fits_port,
    "protocol": fits_protocol,
    "version": fits_version,
    "mark": fits_mark,
    "flags": fits_flags,
    "state": fits_state,
    "status": among(),
    "direction": among("original"),
    "addressed_to": among("local"),
    "sent_from": among("unicast"),
    "packet_type": among("host", "unicast"),
    "way_back": among("1", "true", "exists"),
    "rate": among("within"),  # a first connection does not reach a limit
    "secured": among("none"),  # by IPsec
    "never": among(),
    "unclear": lambda _visitor, _is_not, _values: UNCLEAR_FIT,
}  # type: dict[str, Any]


# ---------------------------------------------------------------- rules, one after the other


class Walk:
    """The paths of one stranger through one table."""

    def __init__(self, table: Table, visitor: Visitor) -> None:
        self.table = table
        self.visitor = visitor
        self.is_partly = False
        self.known = {}  # type: dict[tuple[str, int], set[str]]

    def ends(self, chain: str, within: int = FIT, depth: int = 0) -> "set[str]":
        """Return the possible results of a chain: DROP, ACCEPT, THROUGH and so on. A loop counts as THROUGH.

        `within` is how well the rules that lead there match.
        """
        key = (chain, within)
        if key not in self.known:
            self.known[key] = {THROUGH}
            rules = self.table.chains.get(chain)
            is_lost = rules is None or depth > DEEPEST
            self.known[key] = {ANYTHING} if is_lost else self.through(rules or [], within, depth)
        return self.known[key]

    def through(self, rules: "list[Rule]", within: int, depth: int) -> "set[str]":
        """Return the possible results of some rules."""
        ends, are_others = set(), False  # type: tuple[set[str], bool]
        for conditions, action, target in rules:
            fit = min((FITS[key](self.visitor, is_not, values) for key, is_not, values in conditions), default=FIT)
            led = self.led(action, target, min(within, fit), depth) if fit else {THROUGH}
            leaves = action in (GOTO, RETURN) and THROUGH in led  # back to where the chain was called from
            if fit == SOME_FIT or (fit and are_others):
                self.is_partly = self.is_partly or DROP in led
            elif fit:
                ends |= led - {OTHERS} if leaves else led - {THROUGH, OTHERS}
            if fit >= MOST_FIT and (leaves or THROUGH not in led):
                if fit == FIT and OTHERS not in led:
                    return ends
                are_others = True
        return ends | {OTHERS if are_others else THROUGH}

    def led(self, action: str, target: str, within: int, depth: int) -> "set[str]":
        """Return the possible results of an action."""
        if action in (JUMP, GOTO):
            return self.ends(target, within, depth + 1)
        if action == MARK:
            self.visitor.marked = self.visitor.marked or SOME_FIT if within == SOME_FIT else UNCLEAR_FIT
            return {THROUGH}
        return {RETURN: {THROUGH}, ANYTHING: {THROUGH, ANYTHING}}.get(action, {action})

    def evaluate(self, base: "tuple[str, int, int, str, list[str] | None]") -> str:
        """Return what happens to a stranger at a base chain."""
        chain, hook, priority, policy, devices = base
        self.visitor.is_tracked = (hook, priority) > TRACKED_FROM
        if self.table.family == "netdev" and devices and self.visitor.interface not in devices:
            return OPEN
        ends = {policy if end == THROUGH else end for end in self.ends(chain)}
        self.is_partly = self.is_partly or (OTHERS in ends and policy == DROP)
        ends.discard(OTHERS)
        if ends == {DROP}:
            is_sure = self.table.is_asleep is False and (self.table.family != "netdev" or devices)
            return PARTLY if self.table.family in ("bridge", "arp") else CLOSED if is_sure else VAGUE
        if ends & {DROP, ANYTHING}:
            return VAGUE
        return PARTLY if self.is_partly else OPEN


def evaluate(tables: "list[Table]", visitor: Visitor) -> "tuple[str, Table | None]":
    """Return what happens to a stranger, and the table that decides: one table that blocks it is enough."""
    visitor.marked = NO_FIT
    awake = [one for one in tables if one.family in FAMILIES[visitor.version] and not one.is_asleep]
    bases = [(base, table) for table in awake for base in table.bases]
    found = {}  # type: dict[str, Table]
    for base, table in sorted(bases, key=lambda one: one[0][1:3]):
        found.setdefault(Walk(table, visitor).evaluate(base), table)
    level = next((one for one in (CLOSED, VAGUE, PARTLY) if one in found), OPEN)
    return level, found.get(level)
