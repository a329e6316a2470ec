"""The firewall, a part of the section security: whether what nothing allows is turned away."""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator

    from ..probe import Host, Json, Request
    from .security import PROGRAM_FOLDERS, Unknown, as_root, has_program, is_running, verdict

NFT_LIST = ["nft", "list", "ruleset"]
IPTABLES_LIST = ["iptables", "-S"]

# Rules are read for one question: is turned away what nothing allows? By a chain's policy, or by a rule without
# conditions (but for the interface) in it or where it leads. Docker's, Podman's and fail2ban's own rules are not that.
NFT_PLAIN = (
    r"(?:iif(?:name)? (?:!= )?\S+ )?(?:counter(?: packets \d+ bytes \d+)? )?"
    r"(?:log (?:(?:prefix|level|flags|group|snaplen|queue-threshold) \S+ )*)?"
)
NFT_ALL = re.compile(r"type filter hook input .*policy drop;|" + NFT_PLAIN + r"(?:drop|reject)\b")
NFT_SOME = re.compile(r"\b(?:drop|reject)\b")
NFT_PLAIN_JUMP = re.compile(NFT_PLAIN + r"(?:jump|goto) (\S+)")
NFT_JUMP = re.compile(r".*\b(?:jump|goto) ([^\s,]+)")
IPTABLES_PLAIN = r"(?:(?:! )?-i \S+ )?(?:-m comment --comment \S+ )?"
IPTABLES_ALL = re.compile(r"policy DROP|" + IPTABLES_PLAIN + r"-j (?:DROP|REJECT)\b")
IPTABLES_SOME = re.compile(r"-j (?:DROP|REJECT)\b")
IPTABLES_PLAIN_JUMP = re.compile(IPTABLES_PLAIN + r"-[jg] (\S+)")
IPTABLES_JUMP = re.compile(r".*-[jg] (\S+)")
NFT_WHOLE = ("inet/", "ip/")  # families of tables; one for IPv6, ARP or a bridge alone leaves IPv4 open
QUOTED = re.compile(r'"[^"]*"')  # names and comments may hold any word


def parse_nft(text: str) -> "tuple[dict[str, list[str]], list[str]]":
    """Return the rules of each chain of a ruleset, and the chains that meet what comes to this machine (nft(8)).

    table inet filter {
        chain input {
            type filter hook input priority filter; policy drop;
            jump guard
        }
    }
    """
    chains = {"": []}  # type: dict[str, list[str]]
    hooked = []
    table = chain = ""
    for line in (QUOTED.sub("Q", line).strip() for line in text.splitlines()):
        words = line.split()
        if line.startswith("table ") and len(words) > 2:
            table = "/".join(words[1:3]) + "/"
        elif line.startswith("chain ") and len(words) > 1:
            chain = table + words[1]
            chains[chain] = []
        elif line == "}":
            chain = ""
        else:
            chains[chain].append(re.sub(r"\b(jump|goto) ", r"\1 " + table, line))
            if line.startswith("type filter hook input "):
                hooked.append(chain)
    return chains, hooked


def parse_iptables(text: str) -> "tuple[dict[str, list[str]], list[str]]":
    """Return the rules of each chain, and the chain that meets what comes to this machine (iptables -S).

    -P INPUT ACCEPT
    -A INPUT -j guard
    -A guard -s 192.0.2.1/32 -j DROP
    """
    chains = {}  # type: dict[str, list[str]]
    for line in text.splitlines():
        words = QUOTED.sub("Q", line).split(None, 2)
        if len(words) == 3 and words[0] in ("-P", "-A"):
            chains.setdefault(words[1], []).append("policy " + words[2] if words[0] == "-P" else words[2])
    return chains, ["INPUT"]


def rules_from(chains: "dict[str, list[str]]", start: "list[str]", jump: "Any") -> "Iterator[str]":
    """Yield the rules of some chains and of those that they lead to."""
    waiting, seen = list(start), set(start)
    while waiting:
        for rule in chains.get(waiting.pop(), ()):
            yield rule
            led = jump.match(rule)
            if led and led.group(1) not in seen:
                seen.add(led.group(1))
                waiting.append(led.group(1))


def nft_filters(text: str) -> str:
    """Return whether a ruleset turns away all that it does not allow (`active`), some (`some_rules`) or nothing."""
    chains, start = parse_nft(text)
    whole = [chain for chain in start if chain.startswith(NFT_WHOLE)]
    if any(NFT_ALL.match(rule) for rule in rules_from(chains, whole, NFT_PLAIN_JUMP)):
        return "active"
    return "some_rules" if any(map(NFT_SOME.search, rules_from(chains, start, NFT_JUMP))) else "inactive"


def iptables_filters(text: str) -> str:
    """Return the same of iptables' rules."""
    chains, start = parse_iptables(text)
    if any(IPTABLES_ALL.match(rule) for rule in rules_from(chains, start, IPTABLES_PLAIN_JUMP)):
        return "active"
    return "some_rules" if any(map(IPTABLES_SOME.search, rules_from(chains, start, IPTABLES_JUMP))) else "inactive"


def by_nft(host: "Host", request: "Request") -> str:
    """Return what nft's rules do; they are those of today's iptables as well."""
    return nft_filters(as_root(host, request, NFT_LIST))


def by_iptables(host: "Host", request: "Request") -> str:
    """Return what iptables' rules do. The old one would load its modules into the kernel only to find no rules."""
    is_old = any(host.real_path(folder + "iptables").endswith("legacy-multi") for folder in PROGRAM_FOLDERS[:2])
    if is_old and not host.exists("/proc/net/ip_tables_names"):
        return "inactive"
    return iptables_filters(as_root(host, request, IPTABLES_LIST))


def firewall(host: "Host", request: "Request") -> "Json":
    """Return whether visitors are turned away: by ufw's and firewalld's own word, else by the kernel's rules."""
    ufw = re.search(r"^ENABLED=(\w+)", host.text("/etc/ufw/ufw.conf"), re.MULTILINE)
    if ufw and ufw.group(1).lower() == "yes":
        return verdict("ok", "active", backend="ufw")
    if is_running(host, "firewalld"):
        return verdict("ok", "active", backend="firewalld")
    found = {}
    for backend, judge in (("nftables", by_nft), ("iptables", by_iptables)):
        try:
            found[backend] = judge(host, request)
        except Unknown as err:
            found[backend] = err.reason
        if found[backend] == "active":
            return verdict("ok", "active", backend=backend)
    switched_off = "ufw" if ufw else "firewalld" if has_program(host, "firewalld") else None
    reasons = set(found.values()) - {"not_installed"}
    if reasons == {"inactive"}:
        return verdict("warning", "inactive", backend=switched_off)
    reason = next((one for one in found.values() if one in reasons - {"inactive"}), "no_tool")
    return verdict("unknown", reason, backend=switched_off)
