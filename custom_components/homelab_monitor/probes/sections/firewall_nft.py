"""The rules of `nft -j list ruleset` as the firewall's tables, a part of the section security."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..host import ANSWER_MARKS, Json
    from .firewall_iptables import IPTABLES_GOES_ON, IPTABLES_TARGETS
    from .firewall_rules import ANYTHING, MARK, Condition, Rule, Table
    from .verdicts import Unknown

# The keys of nft's comparisons (nft(8)) → the condition's key.
NFT_KEYS = {
    "ip saddr": "source",
    "ip6 saddr": "source",
    "ether saddr": "source",
    "ip daddr": "destination",
    "ip6 daddr": "destination",
    "ip protocol": "protocol",
    "ip6 nexthdr": "protocol",
    "meta l4proto": "protocol",
    "tcp dport": "port",
    "udp dport": "port",
    "th dport": "port",
    "tcp sport": "source_port",
    "udp sport": "source_port",
    "th sport": "source_port",
    "tcp flags": "flags",
    "ether type": "version",
    "meta nfproto": "version",
    "meta protocol": "version",
    "meta iif": "interface",
    "meta iifname": "interface",
    "meta oif": "never",
    "meta oifname": "never",
    "meta mark": "mark",
    "meta pkttype": "packet_type",
    "ct mark": "mark",
    "ct state": "state",
    "ct status": "status",
    "ct direction": "direction",
    "ct helper": "never",
    "ip frag-off": "never",
    "fib daddr type": "addressed_to",
    "fib saddr type": "sent_from",
    "fib saddr oif": "way_back",
    "fib saddr oifname": "way_back",
    "fib saddr check": "way_back",
}
# A comparison of a header's field also requires that header.
NFT_HEADERS = {"ip": "version", "ip6": "version", "arp": "version", "th": None, "ether": None, "vlan": "unclear"}
NFT_HEADERS.update(dict.fromkeys(("rt", "frag", "hbh", "dst", "mh", "srh"), "never"))  # a stranger's packet has none of these
NFT_ACTIONS = {
    **dict.fromkeys(("accept", "snat", "dnat", "masquerade", "redirect"), "accept"),
    **dict.fromkeys(("drop", "reject"), "drop"),
    **dict.fromkeys(("queue", "synproxy", "fwd", "xt"), "anything"),
    **{word: word for word in ("jump", "goto", "return")},
}
NFT_LIMITS = ("limit", "quota", "ct count")  # with `inv` they match beyond the limit, else within it
NFT_GOES_ON = {
    *("counter", "log", "notrack", "set", "map", "dup", "tproxy", "flow", "ct helper", "ct timeout", "ct expectation"),
    *("secmark", "last", "continue", "comment", "tunnel"),
}


def comparison_conditions(words: str, is_not: bool, values: "list[str]") -> "list[Condition]":
    """Return the conditions of a comparison of nft; without values it is not understood.

    tcp dport: a protocol and a port
    """
    header, _, field = words.partition(" ")
    found = []  # type: list[Condition]
    if header not in ("meta", "ct", "fib", "opaque"):
        kind = NFT_HEADERS.get(header, "protocol")
        found = [(kind, False, [header])] if kind else []
    if field or header == "opaque":
        found.append((NFT_KEYS.get(words, "unclear"), is_not, values))
    return found


def limit_condition(is_beyond: bool) -> "list[Condition]":
    """Return the condition of a limit."""
    return [("rate", is_beyond, ["within"])]


# ---------------------------------------------------------------- as JSON


def parse_nft_json(text: str) -> "list[Table]":
    """Return the tables in libnftables-json(5); raises Unknown if it is malformed or too large.

    {"nftables": [{"metainfo": {"version": "1.0.6", "json_schema_version": 1}},
      {"table": {"family": "inet", "name": "filter", "handle": 1}},
      {"chain": {"family": "inet", "table": "filter", "name": "input", "type": "filter", "hook": "input", "prio": 0,
        "policy": "drop"}},
      {"rule": {"family": "inet", "table": "filter", "chain": "input", "expr": [{"match": {"op": "==",
        "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 22}}, {"accept": null}]}}]}
    """
    import json  # noqa: PLC0415

    if sum(map(text.count, "[{,:")) > ANSWER_MARKS:
        raise Unknown("unreadable")
    try:
        objects = [(kind, one) for row in json.loads(text)["nftables"] for kind, one in row.items()]
        tables = {
            (one["family"], one["name"]): Table(one["family"], one["name"], "nftables")
            for kind, one in objects
            if kind == "table"
        }
        for kind, one in objects:
            if kind == "table":
                tables[one["family"], one["name"]].is_asleep = is_dormant(one.get("flags"))
            if kind in ("chain", "set", "map"):
                note_nft(kind, one, tables[one["family"], one["table"]])
        for kind, one in objects:
            if kind == "rule":
                table = tables[one["family"], one["table"]]
                table.chains[one["chain"]].extend(parse_nft_rule(one["expr"], table))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Unknown("unreadable") from None
    return list(tables.values())


def is_dormant(flags: "Any") -> "bool | None":
    """Return whether a table's flags (one or a list) make it dormant, None if unknown: nft 1.0.6 shows its name there."""
    words = set([flags] if isinstance(flags, str) else flags or [])
    return True if "dormant" in words else False if words <= {"owner", "persist"} else None


def note_nft(kind: str, description: "Json", table: "Table") -> None:
    """Add a chain with its hook, or the elements of a set or map."""
    if kind != "chain":
        table.sets[description["name"]] = description.get("elem", [])
        return
    table.chains[description["name"]] = []
    if "hook" in description:
        device = description.get("dev")
        devices = [device] if isinstance(device, str) else device
        table.add_base(description["name"], description["hook"], int(description.get("prio", 0)), description.get("policy", "accept"), devices)


def parse_nft_rule(expressions: "list[Any]", table: "Table") -> "list[Rule]":
    """Return the rules of one rule: a verdict map gives one for each of its elements."""
    conditions, rules = [], []  # type: tuple[list[Condition], list[Rule]]
    for expression in expressions:
        for word, what in (expression or {"xt": None}).items():
            if word == "vmap":
                rules.extend((conditions + more, action, target) for more, action, target in parse_vmap(what, table))
            elif word == "mangle":
                rules.extend((list(conditions), MARK, "") for key in [what["key"]] if "mark" in str(key))
            elif word == "xt":
                more, action = parse_xt(what or {})
                conditions.extend(more)
                rules.extend([(list(conditions), action, "")] if action else [])
            elif word in NFT_ACTIONS:
                rules.append((list(conditions), NFT_ACTIONS[word], what["target"] if word in ("jump", "goto") else ""))
            else:
                conditions.extend(parse_nft_condition(word, what, table))
    return rules


def parse_xt(what: "Json") -> "tuple[list[Condition], str | None]":
    """Return the conditions or the action of an iptables extension, of which nft only shows the name.

    {"type": "target", "name": "REJECT"}, {"type": "match", "name": "conntrack"}
    """
    name = what.get("name", "")
    if what.get("type") != "match":
        return [], None if name in IPTABLES_GOES_ON else IPTABLES_TARGETS.get(name, ANYTHING)
    return [] if name == "comment" else [("unclear", False, [])], None


def parse_nft_condition(word: str, what: "Any", table: "Table") -> "list[Condition]":
    """Return the conditions of an expression, including the limit of a set statement (`stmt`)."""
    if word == "match":
        return parse_match(what, table)
    if word in NFT_LIMITS:
        return limit_condition(bool(what.get("inv")))
    if word in ("set", "meter"):
        inner = what.get("stmt") or []
        inner = [inner] if isinstance(inner, dict) else inner
        return [one for each in inner for name, more in each.items() for one in parse_nft_condition(name, more, table)]
    return [] if word in NFT_GOES_ON else [("unclear", False, [])]


def parse_match(what: "Json", table: "Table") -> "list[Condition]":
    """Return the conditions of a comparison."""
    left, operator, right = what["left"], what["op"], what["right"]
    if "concat" in left and operator == "!=":
        is_source = any("source" == NFT_KEYS.get(nft_words(part)) for part in left["concat"])
        return [("source" if is_source else "unclear", True, [])]
    if "concat" in left:
        columns = [one.get("concat", []) for one in elements_of(right, table) if isinstance(one, dict)]
        pairs = [(part, [row[at] for row in columns if at < len(row)]) for at, part in enumerate(left["concat"])]
        return [
            one for part, values in pairs for one in parse_match({"left": part, "op": operator, "right": values}, table)
        ]
    mask = None
    if "&" in left:
        left, *mask = left["&"]
    words, values = nft_words(left), [value for one in elements_of(right, table) for value in nft_values(one)]
    is_not = operator == "!="
    if words == "tcp flags":
        looked_at = ",".join(nft_values(mask)) if mask is not None else "" if operator == "in" else "all"
        values = [looked_at + "=" + ",".join(values)]
    elif words == "ip frag-off" and values == ["0"]:
        is_not = not is_not  # a comparison with 0 means: no fragment
    elif operator in ("<", "<=", ">", ">=") and values:
        values = [span(operator, values[0])]
    return comparison_conditions(words, is_not, values)


def span(operator: str, value: str) -> str:
    """Return a comparison of numbers as a range of ports."""
    number = int(value) if value.isdigit() else 0
    low, high = {"<": (0, number - 1), "<=": (0, number), ">": (number + 1, 65535), ">=": (number, 65535)}[operator]
    return f"{low}-{high}"


def elements_of(right: "Any", table: "Table") -> "list[Any]":
    """Return the compared values one by one; for a named set its elements, or its name if it is unknown."""
    if isinstance(right, str) and right.startswith("@"):
        right = table.sets.get(right[1:], right)
    elif isinstance(right, dict) and "set" in right:
        return elements_of(right["set"], table)
    elements = right if isinstance(right, list) else [right]
    return [one["elem"]["val"] if isinstance(one, dict) and "elem" in one else one for one in elements]


def nft_values(value: "Any") -> "list[str]":
    """Return a value as a list of texts; a prefix or a range is one text.

    {"prefix": {"addr": "192.0.2.0", "len": 24}}, {"range": [80, 90]}, {"|": ["fin", "syn"]}
    """
    if isinstance(value, list):
        return [word for one in value for word in nft_values(one)]
    if not isinstance(value, dict):
        return [str(value).lower() if isinstance(value, bool) else str(value)]
    if "prefix" in value:
        return ["{}/{}".format(value["prefix"]["addr"], value["prefix"]["len"])]
    if "range" in value:
        return ["-".join(map(str, value["range"]))]
    return [word for one in value.values() if isinstance(one, list) for word in nft_values(one)]


def nft_words(left: "Json") -> str:
    """Return the left side of a comparison as nft writes it.

    {"payload": {"protocol": "tcp", "field": "dport"}}  →  tcp dport
    """
    for word, what in left.items():
        if word == "payload" and "field" in what:
            return "{} {}".format(what["protocol"], what["field"])
        if word == "exthdr":
            return "{} {}".format(what["name"], what.get("field", "exists"))
        if word in ("meta", "ct"):
            return "{} {}".format(word, what["key"])
        if word == "fib":
            flags = what.get("flags", [])
            return "fib {} {}".format(next((one for one in ("saddr", "daddr") if one in flags), ""), what["result"])
    return "opaque"


def parse_vmap(what: "Json", table: "Table") -> "list[Rule]":
    """Return a rule for each element of a verdict map."""
    rules = []  # type: list[Rule]
    pairs = [pair if isinstance(pair, list) else (pair, {"xt": None}) for pair in elements_of(what["data"], table)]
    others = [key for key, _ in pairs if key != "*"]
    for key, verdicts in pairs:
        # `*` is for everything that no other element matches, also after these have led nowhere.
        operator, right = ("!=", others) if key == "*" else ("==", [key])
        conditions = parse_match({"left": what["key"], "op": operator, "right": right}, table)
        for _, action, target in parse_nft_rule([verdicts], table):
            rules.append((conditions, action, target))
    return rules
