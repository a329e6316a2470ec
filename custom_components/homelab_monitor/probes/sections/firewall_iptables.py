"""The rules of iptables-save(8) and iptables -S as the firewall's tables, a part of the section security."""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import lines_of
    from .firewall_rules import ANYTHING, GOTO, JUMP, Condition, Rule, Table

IPTABLES_WORD = re.compile(r'"(?:\\.|[^"\\])*"|\S+')
IPTABLES_HOOKS = {"PREROUTING": "prerouting", "INPUT": "input"}
IPTABLES_PRIORITIES = {"raw": -300, "mangle": -150, "nat": -100, "filter": 0, "security": 50}
# Options whose one argument may be any text, even one that looks like an option.
IPTABLES_TEXTS = ("--comment", "--log-prefix", "--nflog-prefix", "--name", "--string", "--hex-string")
# option → what it compares
IPTABLES_OPTIONS = {
    "-i": "interface",
    "-s": "source",
    "--src-range": "source",
    "--mac-source": "source",
    "--src-cc": "source",
    "--source-country": "source",
    "-d": "destination",
    "--dst-range": "destination",
    "-p": "protocol",
    "--dport": "port",
    "--dports": "port",
    "--ports": "port",
    "--sport": "source_port",
    "--sports": "source_port",
    "--ctstate": "state",
    "--state": "state",
    "--ctstatus": "status",
    "--ctdir": "direction",
    "--mark": "mark",
    "--dst-type": "addressed_to",
    "--src-type": "sent_from",
    "--pkt-type": "packet_type",
    "-o": "never",
    "-f": "never",
    "--helper": "never",
    "--pol": "secured",
    "--rcheck": "never",
    "--update": "never",
    "--remove": "never",
    "--hashlimit-above": "never",
    "--connlimit-above": "never",
}
# Modules whose options are all above, or compare nothing that blocks a first connection.
IPTABLES_MODULES = {
    *("tcp", "udp", "sctp", "dccp", "icmp", "icmp6", "ipv6-icmp", "multiport", "comment", "state", "conntrack", "mark"),
    *(
        "connmark",
        "limit",
        "hashlimit",
        "connlimit",
        "recent",
        "addrtype",
        "pkttype",
        "iprange",
        "mac",
        "rpfilter",
        "set",
    ),
    *("geoip", "helper", "policy"),
}
IPTABLES_STRANGE = ("rt", "frag")  # a stranger's packet has no routing header and is no fragment
IPTABLES_HARMLESS = {
    *(
        "--comment",
        "--limit",
        "--limit-burst",
        "--set",
        "--seconds",
        "--hitcount",
        "--reap",
        "--rttl",
        "--name",
        "--mask",
    ),
    *("--rsource", "--rdest", "--hashlimit-upto", "--hashlimit-name", "--hashlimit-mode", "--hashlimit-burst"),
    *(
        "--hashlimit-htable-size",
        "--hashlimit-htable-max",
        "--hashlimit-htable-expire",
        "--hashlimit-htable-gcinterval",
    ),
    *("--hashlimit-srcmask", "--hashlimit-dstmask", "--hashlimit-rate-match", "--hashlimit-rate-interval"),
    *("--connlimit-upto", "--connlimit-mask", "--connlimit-saddr", "--connlimit-daddr", "--loose", "--validmark"),
    *("--accept-local", "--dir", "--return-nomatch", "--update-counters", "--update-subcounters"),
}
IPTABLES_TARGETS = {
    **dict.fromkeys(("ACCEPT", "DNAT", "REDIRECT", "MASQUERADE", "SNAT", "NETMAP", "TPROXY"), "accept"),
    **dict.fromkeys(("DROP", "REJECT", "TARPIT"), "drop"),
    **dict.fromkeys(("MARK", "CONNMARK"), "mark"),
    "RETURN": "return",
}
IPTABLES_GOES_ON = {
    *("LOG", "NFLOG", "ULOG", "TRACE", "CT", "NOTRACK", "TCPMSS", "TCPOPTSTRIP", "TOS", "DSCP", "TTL", "HL", "ECN"),
    *("CLASSIFY", "SET", "AUDIT", "CHECKSUM", "SECMARK", "CONNSECMARK", "TEE", "LED", "RATEEST", "IDLETIMER", "HMARK"),
}


def parse_iptables(text: str, family: str) -> "list[Table]":
    """Return the tables in the output of iptables-save, or of `iptables -S`, which only has the table filter.

    *filter
    :INPUT DROP [0:0]
    :guard - [0:0]
    -A INPUT -i lo -j ACCEPT
    -A INPUT ! -s 192.0.2.0/24 -p tcp -m tcp --dport 22 -m comment --comment "no way" -j guard
    COMMIT
    """
    tables = []  # type: list[Table]
    rules = []  # type: list[tuple[Table, list[str]]]
    for line in lines_of(text):
        words = IPTABLES_WORD.findall(line)
        if line.startswith("*"):
            tables.append(Table(family, line[1:].strip(), "iptables"))
        elif line.startswith((":", "-P ", "-N ", "-A ")) and len(words) > 1:
            if not tables:
                tables.append(Table(family, "filter", "iptables"))
            begin = [words[0][1:], *words[1:]] if line.startswith(":") else words[1:]
            add_chain(tables[-1], begin[0], begin[1].lower() if words[0] != "-A" and len(begin) > 1 else "-")
            if words[0] == "-A":
                rules.append((tables[-1], words[1:]))
    for table, words in rules:
        table.chains[words[0]].extend(parse_iptables_rule(words[1:], table))
    return tables


def add_chain(table: "Table", chain: str, policy: str) -> None:
    """Add a chain; a built-in chain has a policy."""
    if chain not in table.chains:
        table.chains[chain] = []
        if policy in ("accept", "drop"):
            table.add_base(chain, IPTABLES_HOOKS.get(chain, ""), IPTABLES_PRIORITIES.get(table.name, 0), policy)


def parse_iptables_rule(words: "list[str]", table: "Table") -> "list[Rule]":
    """Return the rule of a line, empty if it does nothing to a packet.

    -p tcp -m conntrack ! --ctstate NEW -j REJECT --reject-with tcp-reset
    """
    conditions = []  # type: list[Condition]
    is_not, at = False, 0
    while at < len(words):
        option, at = words[at], at + 1
        if option in ("-j", "-g"):
            action = GOTO if option == "-g" else action_of(words[at], table)
            return [(conditions, action, words[at])] if action else []
        if option == "!":
            is_not = True
            continue
        start = at
        while at < len(words) and (
            at == start and option in IPTABLES_TEXTS or words[at] != "!" and words[at][0] != "-"
        ):
            at += 1
        conditions.extend(iptables_condition(option, is_not, words[start:at]))
        is_not = False
    return []


def action_of(target: str, table: "Table") -> "str | None":
    """Return a target's action, None if the packet continues unchanged after it."""
    if target in table.chains:
        return JUMP
    return None if target in IPTABLES_GOES_ON else IPTABLES_TARGETS.get(target, ANYTHING)


def iptables_condition(option: str, is_not: bool, words: "list[str]") -> "list[Condition]":
    """Return the conditions of an option with its arguments."""
    key = IPTABLES_OPTIONS.get(option)
    if key:
        text = ",".join(words)
        return [(key, is_not, (text.replace(":", "-") if "port" in key else text).split(","))]
    if option == "--tcp-flags" and len(words) == 2:
        return [("flags", is_not, ["=".join(words)])]
    if option == "--match-set" and len(words) == 2:
        return [("source" if "src" in words[1].split(",") else "unclear", is_not, ["@" + words[0]])]
    if option == "--invert" or (option == "-m" and words[0] in IPTABLES_STRANGE):
        return [("never", False, [])]
    return (
        []
        if option in IPTABLES_HARMLESS or (option == "-m" and words[0] in IPTABLES_MODULES)
        else [("unclear", False, [])]
    )
