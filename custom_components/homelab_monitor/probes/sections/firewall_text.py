"""The rules of `nft list ruleset` as the firewall's tables, a part of the section security.

For older sudo rules, and for an nft without JSON. The format is made for people, so less of it is parsed.
"""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..host import lines_of
    from .firewall_iptables import IPTABLES_GOES_ON, IPTABLES_PRIORITIES, IPTABLES_TARGETS
    from .firewall_nft import NFT_ACTIONS, comparison_conditions, limit_condition, span
    from .firewall_rules import ANYTHING, GOTO, JUMP, MARK, Condition, Rule, Table
    from .verdicts import Unknown

NFT_TEXT_QUOTED = re.compile(r'"([^"]*)"')
NFT_TEXT_MARK = re.compile(r"(?:meta|ct) mark set \S+(?: (?:and|or|xor|[&|^]) \S+)*")
# Statements that compare nothing, and the action at the end of a rule.
NFT_TEXT_NOISE = re.compile(
    r"(?<!\S)(?:counter(?: packets \d+ bytes \d+| name \S+)?|log(?: (?:prefix|level|flags|group|snaplen|queue-threshold) \S+)*"
    r"|comment \S+|notrack|(?:meta|ct) nftrace set \S+)(?!\S)"
)
NFT_TEXT_ACTION = re.compile(
    r"(?:^| )(accept|drop|reject|jump|goto|return|queue|synproxy|(?:dnat|snat)(?= (?:to|ip|ip6) )|redirect|masquerade|xt target)(?: (.*))?$"
)
NFT_TEXT_KEY = (
    r"(?:iif|iifname|oif|oifname|iifgroup|meta \w+|ct (?:original |reply )?\w+|fib [\w. ]+? (?:type|oif|oifname|check)"
    r"|(?:ip|ip6|tcp|udp|udplite|sctp|dccp|th|icmp|icmpv6|igmp|ether|arp|vlan|esp|ah|rt|frag|hbh|dst|mh|srh) [\w-]+)"
)
NFT_TEXT_MATCH = re.compile(
    r"(?P<keys>" + NFT_TEXT_KEY + r"(?: \. " + NFT_TEXT_KEY + r")*)(?: & (?P<mask>\S+))?(?: (?P<op>==|!=|<=?|>=?|!))?"
    r" (?P<is_map>vmap )?(?P<values>\{[^}]*\}|\S+(?: / \S+)?)(?: |$)"
)
NFT_TEXT_LIMIT = re.compile(
    r"(?:limit rate|quota|ct count) (?P<over>over )?(?:\S+ bytes|\S+ \w?bytes|\S+)(?: burst \d+ \w+)?(?: |$)"
)


def parse_nft_text(text: str) -> "list[Table]":
    """Return the tables in nft's output; raises Unknown if it is incomplete. Contents of sets are ignored.

    table inet filter {
        chain input {
            type filter hook input priority filter; policy drop;
            iifname "lo" accept
            tcp dport { 22, 80 } ct state new counter packets 0 bytes 0 accept
        }
    }
    """
    tables, chain, depth = [], "", 0  # type: tuple[list[Table], str, int]
    for line in (unquote_names(one.strip()) for one in lines_of(text)):
        words = line.split()
        if depth == 0 and words[:1] == ["table"] and len(words) > 3:
            tables.append(Table(words[1], words[2], "nftables"))
        elif depth == 1 and words[:1] == ["chain"]:
            chain = words[1]
            tables[-1].chains[chain] = []
        elif depth == 1 and line == "flags dormant":
            tables[-1].is_asleep = True
        elif depth == 2 and chain and words[:1] == ["type"]:
            add_text_base(tables[-1], chain, line)
        elif depth == 2 and chain and line != "}":
            tables[-1].chains[chain].extend(parse_nft_line(line))
        depth += (words[-1:] == ["{"]) - (line == "}")
        chain = chain if depth == 2 else ""
    if depth:
        raise Unknown("unreadable")
    return tables


def unquote_names(line: str) -> str:
    """Return a line with unquoted names; any other quoted text is replaced by Q.

    iifname "eth0" log prefix "no way: "  →  iifname eth0 log prefix Q
    """
    return NFT_TEXT_QUOTED.sub(lambda one: one.group(1) if re.match(r"[\w.*-]+$", one.group(1)) else "Q", line)


def add_text_base(table: "Table", chain: str, line: str) -> None:
    """Add the hook at which packets enter a chain.

    type filter hook ingress device eth0 priority filter; policy drop;
    """
    hook, policy = re.search(r"hook (\w+)", line), re.search(r"policy (\w+)", line)
    device = re.search(r"devices? =? ?(?:\{ ([^}]*) \}|(\S+))", line)
    devices = (device.group(1) or device.group(2)).split(", ") if device else None
    table.add_base(chain, hook.group(1) if hook else "", priority_of(line), policy.group(1) if policy else "accept", devices)


def priority_of(line: str) -> int:
    """Return a chain's priority, which may be relative to a named one.

    priority -300; priority filter; priority filter + 10;
    """
    match = re.search(r"priority (\w*)([-+ \d]*);", line)
    number = match.group(2).replace(" ", "") if match and match.group(2).strip() else "0"
    name = "nat" if match and match.group(1) == "dstnat" else match.group(1) if match else ""
    return IPTABLES_PRIORITIES.get(name, int(name) if name.isdigit() else 0) + int(number)


def parse_nft_line(line: str) -> "list[Rule]":
    """Return the rules of a line, empty if it does nothing to a packet.

    iifname eth0 tcp dport { 22, 80-90 } ct state new accept
    """
    is_marking = NFT_TEXT_MARK.search(line)
    line = " ".join(NFT_TEXT_NOISE.sub("", NFT_TEXT_MARK.sub("", line)).split())
    action, target = None, ""  # type: tuple[str | None, str]
    end = NFT_TEXT_ACTION.search(line, line.rfind("}") + 1)
    if end:
        line, (word, target) = line[: end.start()], end.groups("")
        action = NFT_ACTIONS.get(word, IPTABLES_TARGETS.get(target, ANYTHING))
        action = None if word == "xt target" and target in IPTABLES_GOES_ON else action
    conditions, maps = parse_text_conditions(line)
    rules = [(conditions, MARK, "")] if is_marking else []  # type: list[Rule]
    rules.extend((conditions + more, act, to) for more, act, to in maps)
    return rules + (
        [(conditions, action, target.partition(" ")[0] if action in (JUMP, GOTO) else "")] if action else []
    )


def parse_text_conditions(line: str) -> "tuple[list[Condition], list[Rule]]":
    """Return a rule's conditions, and the rules of its verdict map; unknown syntax is unclear."""
    conditions, maps = [], []  # type: tuple[list[Condition], list[Rule]]
    while line:
        limit, match = NFT_TEXT_LIMIT.match(line), NFT_TEXT_MATCH.match(line)
        if limit:
            conditions.extend(limit_condition(bool(limit.group("over"))))
        elif match and match.group("is_map"):
            maps.extend(text_map(match.group("keys"), match.group("values")))
        elif match:
            conditions.extend(text_match(match))
        elif line.startswith(("meter ", "add ", "update ")):
            inner = re.match(r"[^{]*\{([^}]*)\} ?", line)
            conditions.extend(limit_condition(" over " in inner.group(1)) if inner and " rate " in inner.group(1) else [])
            line = line[inner.end() if inner else len(line) :]
            continue
        else:
            conditions.append(("unclear", False, []))
            return conditions, maps
        line = line[(limit or match).end() :]  # type: ignore[union-attr]
    return conditions, maps


def text_values(text: str) -> "list[str]":
    """Return the values of a set or a list: { 22, 80-90 }, established,related."""
    return [one.strip() for one in text.strip("{} ").split(",") if one.strip()]


def text_match(match: "Any") -> "list[Condition]":
    """Return the conditions of a comparison."""
    keys, mask, operator, text = match.group("keys", "mask", "op", "values")
    is_not = operator in ("!=", "!")
    if " . " in keys:
        parts = keys.split(" . ")
        if keys.startswith("fib "):
            return comparison_conditions(text_key(keys), is_not, text_values(text))
        return [("source" if any("saddr" in part for part in parts) else "unclear", is_not, [])]
    words, values = text_key(keys), text_values(text)
    if words == "tcp flags":
        flags, slash, looked_at = text.partition(" / ")
        values = [
            (looked_at if slash else mask or ("" if operator is None else "all"))
            + "="
            + flags.strip("{ }").replace(" ", "")
        ]
    elif words == "ip frag-off" and values in (["0"], ["0x0"]):  # as nft writes it since 1.1
        is_not = not is_not
    elif operator in ("<", "<=", ">", ">="):
        values = [span(operator, values[0])]
    return comparison_conditions(words, is_not, values)


def text_key(keys: str) -> str:
    """Return the key of a comparison as in NFT_KEYS: iif is meta iif; fib saddr . iif oif is fib saddr oif."""
    words = keys.split()
    if words[0] == "fib":
        return "fib {} {}".format("saddr" if "saddr" in words else "daddr", words[-1])
    return keys if len(words) > 1 else "meta " + keys


def text_map(keys: str, text: str) -> "list[Rule]":
    """Return a rule for each element of a verdict map; the content of a named map is unknown.

    { established : accept, invalid : drop, 22 : jump guard }
    """
    if text.startswith("@"):
        return [(comparison_conditions(text_key(keys), False, [text]), ANYTHING, "")]
    rules = []  # type: list[Rule]
    pairs = [pair.partition(" : ")[::2] for pair in text_values(text)]
    others = [value for value, _ in pairs if value != "*"]
    for value, verdict_text in pairs:
        word, _, target = verdict_text.partition(" ")
        conditions = comparison_conditions(text_key(keys), value == "*", others if value == "*" else [value])
        rules.append((conditions, NFT_ACTIONS.get(word, ANYTHING), target))
    return rules
