"""What random worlds are made of: odd names, types of fields, odd values, and the questions that each type answers."""

from __future__ import annotations

from typing import Any

LAYOUTS = ("objects", "flat", "open")
# Beginnings of names that stand for objects: "two.parts" lies in "two", unless the layout is flat.
PLAIN_NAMES = (
    *("plain", "aws:s3:arn", "hy-phen", "sp ace", 'quo"te', "ünï", "back\\slash", "(paren)", "sla/sh", "and&or"),
    *("AND", "stxr", "[x]{y}", "emoji😀", "_lead", "a'b", "-x", "a~1^2!", "to=<b>", "x`y", "`", "?"),
)
DEEP_NAME = ".".join("deeply-nested")  # thirteen objects, one in the other
DOTTED_NAMES = ("two.parts", "two.more", "a.b-c:d e", "one.two.three", "one.two.4", "AND.OR", "x:y.NOT", DEEP_NAME)
KEYWORD: dict[str, Any] = {"type": "keyword", "ignore_above": 256}
TYPES: dict[str, dict[str, Any]] = {
    "keyword": {"type": "keyword"},
    "keyword, ignore_above 5": {"type": "keyword", "ignore_above": 5},
    "keyword, ignore_above 256": KEYWORD,
    "keyword, ignore_above 8191": {"type": "keyword", "ignore_above": 8191},
    "keyword, lowercase": {"type": "keyword", "normalizer": "lowercase", "ignore_above": 8191},
    "text": {"type": "text"},
    "text with keyword": {"type": "text", "fields": {"keyword": KEYWORD}},
    "flattened": {"type": "flattened", "ignore_above": 300},
    "flattened with map": {"type": "flattened"},
    "ip": {"type": "ip", "ignore_malformed": True},
    "keyword with ip": {**KEYWORD, "fields": {"ip": {"type": "ip", "ignore_malformed": True}}},
    "keyword with number": {**KEYWORD, "fields": {"number": {"type": "double", "ignore_malformed": True}}},
    "long": {"type": "long", "ignore_malformed": True},
    "double": {"type": "double", "ignore_malformed": True},
    "boolean": {"type": "boolean", "ignore_malformed": True},
    "date": {"type": "date", "ignore_malformed": True},
    "dynamic keyword": KEYWORD,
}
OFTEN = (
    "keyword",
    "keyword, ignore_above 256",
    "text with keyword",
    "flattened",
    "keyword with ip",
    "keyword with number",
)
MAP_LIMIT = 100  # characters of a map's text that the index searches
SIZE_LIMIT = 140  # and from which on it keeps no flattened copy
DROPPED = frozenset({"", "-", "none"})

STRINGS = (
    *("", "a", "A", "ab", "aB", "Abc", "root", "k", "K", "\u212a", "s", "ſ", "É", "é", "ß", "ẞ", "ςσΣ", "İ", "i", "ı"),
    *("a*b", "a?b", "a\\b", "*", "?", "\\", "a b", "a\nb", "\n", ".*", "a.b", "[a]", '"', "@&<>~#", "a/b", "{a=b}"),
    *("7", "7.0", "007", "-7", "1e3", "0", "true", "false", "True", "10.0.0.1", "10.1.2.3", "::1", "0:0::1"),
    *("::ffff:10.0.0.1", "2001:db8::1", "2001:DB8::1", "2026-11-20", "😀", "a😀b", "\u0000", "null", "AND", "NOT"),
    *(
        "a\\",
        "/",
        "\\/",
        'a"b c"',
        "a AND b",
        "(a)",
        "_exists_:a",
        "\ta",
        "-",
        "none",
        "a||b",
        '"""',
        "\r",
        "\u3000",
        "ǅ",
    ),
    *("a\u0000", "xa\u0000b\u0000", "cgBvAG8AdAA=", "cm9vdA==", "-a"),
    "arn:aws:s3:::bucket/AWSLogs/111122223333/CloudTrail/x.json.gz",
    *("x" * 255 + "ab", "ab" + "x" * 8190, "x" * 40 + "root"),
)
SHORT = STRINGS[:-3]
VERY_LONG = "ab" + "x" * 33_000  # more than a term may have
NUMBERS = (0, 7, -7, 10, 7.5, -0.25, 123456789012345, 1e3)
RULE_NUMBERS = (*NUMBERS[:-1], *NUMBERS)  # 1000.0 is refused, as pySigma makes 1000 of it
ENCODED = ("root", "ab", "root", "a", "/b", "Ab c")  # what can be written in two bytes a letter
UNWILD = ("ip", "long", "double", "boolean", "date")
# What holds for the value alone is no longer safe under not, and mostly refused there.
FRAGILE = ("flattened", "ip", "long", "double", "boolean", "keyword, lowercase", "flattened with map")
REGEXES = (
    *(
        "^a",
        "b$",
        "^a.*b$",
        "a|b",
        "^(a|A)b?$",
        "[a-c]{2}",
        "[^a]",
        r"\d+",
        r"\w\s\w",
        r"a\.b",
        "^$",
        "x{255}",
        "(ab)+",
    ),
    *(r"^arn:aws:s3:::[^/]+/", "a.b", r"[\]\[]", "(?:a|b)c", r"\*", "é", r"^\{a=", '"', r"[@&<>~#]+", "(^a|b$)"),
    *(
        "a{2,}",
        r"\\",
        r"/",
        r"\\$",
        r"^(|a)$",
        "(a|)b",
        "^$|k",
        r"a{,2}b",
        "[/]",
        r"[\\/]",
        "^.$",
        r"\S\D\W",
        "a-b|[a-]",
    ),
)
REFUSED_REGEXES = ("(ab)+?", "(?=a)", r"(a)\1", r"\bA", "a^b", "[[:alpha:]]", "a++")
NETWORKS = ("10.0.0.0/8", "10.0.0.1/32", "::/0", "2001:db8::/32", "0.0.0.0/0", "::1/128", "::ffff:0:0/96", "::/64")
REFERENCES = ("fieldref", "fieldref|contains", "fieldref|startswith", "fieldref|endswith")
OF_STRINGS = (
    *("", "", "contains", "startswith", "endswith", "contains|all", "cased", "contains|cased", "endswith|cased"),
    *("re", "re|i", "re|s", "exists", "neq", "contains|neq", "windash", "base64", "base64offset|contains"),
    *("startswith|cased", "startswith", "", "re|ignorecase|dotall", "wide", "utf16", "utf16be|contains"),
    *("wide|base64offset|contains", "startswith|all", *REFERENCES),
)
COMPARISONS = ("lt", "lte", "gt", "gte")
ANY_MODIFIER = (*OF_STRINGS, *COMPARISONS, "cidr", "re|m", "hour", "expand", "fieldref|neq", "fieldref|cased")
MODIFIERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(TYPES, OF_STRINGS),
    "object": ("exists",),
    "unmapped": OF_STRINGS,
    "text": ("exists",),
    "flattened": ("", "startswith", "exists", "cased", "neq", "startswith|cased", "windash"),
    "flattened with map": ("", "startswith", "exists", "cased", "contains", "endswith", "contains|cased", "re", "re|i"),
    "keyword with ip": (*OF_STRINGS, *["cidr"] * 9),
    "keyword with number": (*OF_STRINGS, *COMPARISONS * 2),
    "keyword, lowercase": ("", "contains", "startswith", "endswith", "exists", "contains|all", *REFERENCES),
    "ip": ("", "cidr", "cidr", "exists", "fieldref|startswith"),
    "long": ("", *COMPARISONS, "exists", "fieldref"),
    "double": ("", *COMPARISONS, "exists", "fieldref"),
    "boolean": ("", "", "exists", "cased", "fieldref"),
    "date": ("exists",),
}
# Kinds of fields, and layouts, that a product lacks. OpenSearch's disable_objects is Elasticsearch's subobjects: false,
# but it loses the objects of a list, which the layout "open" has.
LACKING = {"Elasticsearch": (), "OpenSearch": ("flattened", "flattened with map", "open")}
POSITIVE = ("one", "one and two", "one or two", "1 of them", "all of them", "one or (two and one)", "any of t*")
CONDITIONS = (
    *("one", "not one", "one and two", "one or two", "one and not two", "not (one or two)", "not (one and not two)"),
    *(
        "1 of them",
        "all of them",
        "not 1 of t*",
        "(one or two) and not (two and one)",
        "not not one",
        "not all of them",
    ),
    *("one or not two", "not one or two", "not one and not two", "one and not (two or not one)", "any of o*"),
)
