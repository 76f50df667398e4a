"""Policies as text: what is read, what is refused, and how it is written."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.tlog.keys import KeyType, VerifierKey, make_signer_key
from mirrorwitness.tlog.policy import Policy, format_policy, parse_policy
from mirrorwitness.tlog.policy_text import MAX_OF_EACH, MAX_POLICY_BYTES, Group, PolicyLog, PolicyWitness
from tests.unit.tlog import signing

VECTORS = Path(__file__).parents[2] / "data" / "tlog" / "policy"

KELVIN = "\N{KELVIN SIGN}".encode()
LOG, K1, K2, K3 = (key.verifier for key in (signing.LOG, signing.A, signing.B, signing.C))
A, B = f"witness A {K1}\n", f"witness B {K2}\n"
ABOVE = "expected the name of a witness or group of a line above"
WORDS = "expected log, witness, group or quorum"


@pytest.mark.parametrize("name", ["spec", "loose"])
def test_a_policy_has_one_canonical_form(name: str) -> None:
    """Comments, spaces and the words all and any go; the value stays, and so does the form."""
    policy = parse_policy((VECTORS / f"{name}.policy").read_bytes())
    canonical = (VECTORS / f"{name}.canonical.policy").read_bytes()
    assert format_policy(policy) == canonical
    assert parse_policy(canonical) == policy


def test_the_specification_s_example() -> None:
    """A log, six witnesses, three groups and the quorum."""
    policy = parse_policy((VECTORS / "spec.policy").read_bytes())
    names = ["X1", "X2", "X3", "Y1", "Y2", "Y3"]
    kinds = [KeyType.COSIGNATURE] * 5 + [KeyType.ML_DSA_44]
    assert [(log.key.name, log.url) for log in policy.logs] == [("log.example/spec", None)]
    assert [(witness.name.decode(), witness.key.name) for witness in policy.witnesses] == [
        (name, f"{name.lower()}.example") for name in names
    ]
    assert [(witness.key.kind, witness.url) for witness in policy.witnesses] == [(kind, None) for kind in kinds]
    assert policy.groups == (
        Group(b"X-witnesses", 2, (b"X1", b"X2", b"X3")),
        Group(b"Y-witnesses", 1, (b"Y1", b"Y2", b"Y3")),
        Group(b"X-and-Y", 2, (b"X-witnesses", b"Y-witnesses")),
    )
    assert policy.quorum == b"X-and-Y"


def test_everything_that_a_policy_may_have() -> None:
    """Names are octets: K is not the Kelvin sign, and words of the language are names. A URL is anything."""
    policy = parse_policy((VECTORS / "loose.policy").read_bytes())
    assert [(log.key.kind, log.url) for log in policy.logs] == [
        (KeyType.ED25519, "https://log.example/spec/"),
        (KeyType.ML_DSA_44, None),
    ]
    assert [(witness.name, witness.key.name, witness.url) for witness in policy.witnesses] == [
        (b"all", "any.example", None),
        (b"K", "kelvin.example", "https://witness.example/\udce9?x=#y"),
        (KELVIN, "\u00e9l\u00e9phant.example", "-"),
    ]
    assert policy.groups == (Group(b"any", 1, (b"all",)), Group(b"group", 3, (b"any", KELVIN, b"K")))
    assert policy.quorum == b"group"


def test_the_smallest_policy() -> None:
    """Only the quorum has to be there."""
    assert parse_policy(b"quorum none\n") == Policy((), (), (), None)
    assert format_policy(Policy((), (), (), None)) == b"quorum none\n"


def test_the_octets_of_a_policy() -> None:
    """Tab, newline, 0x20 to 0x7E and 0x80 to 0xFF, and no other; here in a comment."""
    allowed = {0x09, 0x0A, *range(0x20, 0x7F), *range(0x80, 0x100)}
    for octet in range(256):
        body = b"\n#" + bytes([octet]) + b"\nquorum none\n"
        if octet in allowed:
            assert parse_policy(body) == Policy((), (), (), None)
            continue
        with pytest.raises(ConfigurationError, match=f"^policy: line 2: has the octet 0x{octet:02x}; expected no "):
            parse_policy(body)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "line 1: the end; expected a line quorum <name>|none before it"),
        ("# quorum none\n\n", "line 3: the end; expected a line quorum <name>|none before it"),
        ("quorum none", "line 1: 'quorum none': expected a newline at its end"),
        (f"{A}quorum A\n ", "line 3: ' ': expected a newline at its end"),
        ("quorum none\r\n", "line 1: has the octet 0x0d; expected no control characters but tab and newline"),
        ("quorum\u00a0none\n", f"line 1: 'quorum\\xa0none': {WORDS}"),
        ("QUORUM none\n", f"line 1: 'QUORUM none': {WORDS}"),
        (f"sth {'x' * 200}\n", f"line 1: 'sth {'x' * 96}': {WORDS}"),
        ("quorum none\nquorum none\n", "line 2: a quorum is in line 1 already; expected it once"),
        (f"{A}quorum none\nquorum A\n", "line 3: a quorum is in line 2 already; expected it once"),
        ("quorum\n", "line 1: 'quorum': expected quorum <name>|none"),
        ("quorum none # why\n", "line 1: 'quorum none # why': expected quorum <name>|none"),
        ("quorum A\n", f"line 1: 'A': {ABOVE}"),
        (f"quorum A\n{A}", f"line 1: 'A': {ABOVE}"),
        (f"{A}quorum w1.example\n", f"line 2: 'w1.example': {ABOVE}"),
    ],
)
def test_lines_and_quorums_that_are_refused(text: str, reason: str) -> None:
    """The message names the line, what is there and what was expected."""
    with pytest.raises(ConfigurationError, match=f"^policy: {re.escape(reason)}$"):
        parse_policy(text.encode())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("log\n", "line 1: 'log': expected log <vkey> [<url>]"),
        (f"log {LOG} https://l.example/ x\n", "expected log <vkey> [<url>]"),
        ("log x\n", "line 1: verifier key 'x': expected NAME+ID+BASE64"),
        (f"log {str(LOG)[:-4]}\n", "it has 29 bytes, expected 32"),
        (f"log {str(LOG).replace('log.', 'gol.')}\n", "verifier key of 'gol.example/a': its ID is "),
        (f"log \xff{LOG}\n", "verifier key '\\udcfflog.example/a"),
        (f"log {K1}\n", "its type is 0x04, expected 0x01 (Ed25519) or 0x06 (ML-DSA-44)"),
        (f"log {LOG}\nlog {LOG} https://l.example/\n", "line 2: a log with this public key is in line 1 already;"),
        ("witness\n", "line 1: 'witness': expected witness <name> <vkey> [<url>]"),
        ("witness A\n", "line 1: 'witness A': expected witness <name> <vkey> [<url>]"),
        (f"witness {K1}\n", "expected witness <name> <vkey> [<url>]"),
        (f"witness A {K1} https://w.example/ #\n", "expected witness <name> <vkey> [<url>]"),
        (f"witness A {LOG}\n", "its type is 0x01, expected 0x04 (Ed25519 cosignature) or 0x06 (ML-DSA-44)"),
        (f"{A}witness B {K1}\n", "line 2: a witness with this public key is in line 1 already; expected it once"),
        (f"witness none {K1}\n", "line 1: 'none' names no witness and no group; expected another name"),
        (f"{A}witness A {K2}\n", "line 2: a definition of 'A' is in line 1 already; expected it once"),
        (f"{A}group G any A\nwitness G {K2}\n", "line 3: a definition of 'G' is in line 2 already; expected it once"),
    ],
)
def test_logs_and_witnesses_that_are_refused(text: str, reason: str) -> None:
    """Form, key, type of key, and what is there twice."""
    with pytest.raises(ConfigurationError, match=f"^policy: .*{re.escape(reason)}"):
        parse_policy(f"{text}quorum none\n".encode("latin-1"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("group G", "line 3: 'group G': expected group <name> all|any|<number> <name>..."),
        ("group G all", "line 3: 'group G all': expected group <name> all|any|<number> <name>..."),
        ("group none any A", "line 3: 'none' names no witness and no group; expected another name"),
        ("group A any B", "line 3: a definition of 'A' is in line 1 already; expected it once"),
        ("group G any A\ngroup G any B", "line 4: a definition of 'G' is in line 3 already; expected it once"),
        ("group G any A X", f"line 3: 'X': {ABOVE}"),
        (f"group G any X\nwitness X {K3}", f"line 3: 'X': {ABOVE}"),
        ("group G any A G", f"line 3: 'G': {ABOVE}"),
        ("group G any H A\ngroup H any G B", f"line 3: 'H': {ABOVE}"),
        ("group G any A none", f"line 3: 'none': {ABOVE}"),
        ("group G all A B A", "line 3: a group with the member 'A' is in line 3 already; expected it once"),
        (
            "group G any A B\ngroup H any A",
            "line 4: a group with the member 'A' is in line 3 already; expected it once",
        ),
        *(
            (f"group G {number} A B", f"line 3: threshold '{number}': expected all, any, or a number from 1 to 2")
            for number in ["0", "3", "-1", "+1", "01", "1.0", "1e0", "0x1", "1_0", "9" * 90, "ALL", "A"]
        ),
        ("group G \u0661 A B", "line 3: threshold '\u0661': expected all, any, or a number from 1 to 2"),
    ],
)
def test_groups_that_are_refused(text: str, reason: str) -> None:
    """Form, names, circles, members that would count twice, and thresholds."""
    with pytest.raises(ConfigurationError, match=f"^policy: {re.escape(reason)}$"):
        parse_policy(f"{A}{B}{text}\nquorum none\n".encode())


def test_one_public_key_under_another_name_or_type_is_refused() -> None:
    """Two witnesses are two keys; a name that one operator may choose does not make them two."""
    renamed, retyped = (VerifierKey("x.example", key.public, key.kind) for key in (K1, K3))
    for first, second in ((K1, renamed), (K3, retyped)):
        with pytest.raises(ConfigurationError, match="line 2: a witness with this public key is in line 1 already"):
            parse_policy(f"witness A {first}\nwitness B {second}\nquorum none\n".encode())
    with pytest.raises(ConfigurationError, match="line 2: a log with this public key is in line 1 already"):
        parse_policy(f"log {LOG}\nlog {VerifierKey('x.example', LOG.public)}\nquorum none\n".encode())


def test_a_log_and_a_witness_may_have_one_key() -> None:
    """The specification speaks of two logs and of two witnesses only; whoever writes the policy wants it so."""
    key = signing.LOG_PQ.verifier
    policy = parse_policy(f"log {key}\nwitness A {key}\nquorum A\n".encode())
    assert (policy.logs[0].key, policy.witnesses[0].key) == (key, key)


def test_messages_have_nothing_that_a_terminal_obeys() -> None:
    """Names may come from somebody else; what cannot be printed is spelled out."""
    with pytest.raises(ConfigurationError) as caught:
        parse_policy("quorum a\u202eb\x9b\xe9".encode() + b"\xff\n")
    assert str(caught.value) == f"policy: line 1: 'a\\u202eb\\x9b\xe9\\xff': {ABOVE}"


def make_numbered(index: int, kind: KeyType) -> VerifierKey:
    """Return one of many keys that nobody has."""
    return VerifierKey(f"k{index}.example", (index + 100).to_bytes(32, "little"), kind)


@pytest.mark.parametrize("count", [32, MAX_OF_EACH])
def test_as_many_as_that_are_read(count: int) -> None:
    """The specification asks for 32 logs, witnesses and groups; ours is more, at once and each."""
    logs = [f"log {make_numbered(index, KeyType.ED25519)}\n" for index in range(count)]
    witnesses = [f"witness w{index} {make_numbered(index, KeyType.COSIGNATURE)}\n" for index in range(count)]
    groups = ["group g0 any w0\n", *(f"group g{index} all g{index - 1} w{index}\n" for index in range(1, count))]
    policy = parse_policy("".join([*logs, *witnesses, *groups, f"quorum g{count - 1}\n"]).encode())
    assert (len(policy.logs), len(policy.witnesses), len(policy.groups)) == (count, count, count)
    everyone = [witness.key for witness in policy.witnesses]
    assert (policy.is_met(everyone), policy.is_met(everyone[1:])) == (True, False)


@pytest.mark.parametrize("what", ["logs", "witnesses", "groups"])
def test_one_more_is_refused(what: str) -> None:
    """Of each kind a thousand, however short the lines are."""
    lines = {
        "logs": [f"log {make_numbered(index, KeyType.ED25519)}\n" for index in range(MAX_OF_EACH + 1)],
        "witnesses": [
            f"witness w{index} {make_numbered(index, KeyType.COSIGNATURE)}\n" for index in range(MAX_OF_EACH + 1)
        ],
        "groups": [
            A,
            "group g0 any A\n",
            *(f"group g{index} any g{index - 1}\n" for index in range(1, MAX_OF_EACH + 1)),
        ],
    }
    with pytest.raises(ConfigurationError, match=f"^policy: has 1001 {what}, more than 1000$"):
        parse_policy("".join([*lines[what], "quorum none\n"]).encode())


def test_oversized() -> None:
    """A policy of the largest size is read, one octet more is not."""
    end = b"\nquorum none\n"
    body = b"#".ljust(MAX_POLICY_BYTES - len(end), b"x") + end
    assert parse_policy(body) == Policy((), (), (), None)
    with pytest.raises(ConfigurationError, match="policy: has 1000001 bytes, more than 1000000"):
        parse_policy(b"#" + body)


GOOD = parse_policy(f"log {LOG}\n{A}{B}group G all A B\ngroup H all G\nquorum H\n".encode())
G, H = GOOD.groups


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"quorum": b"X"}, f"line 6: 'X': {ABOVE}"),
        ({"quorum": b"none"}, "no file says this"),
        ({"quorum": b"H\n"}, "no file says this"),
        ({"groups": (H, G)}, f"line 4: 'G': {ABOVE}"),
        ({"groups": (replace(G, threshold=0), H)}, "line 4: threshold '0': expected all, any, or a number from 1 to 2"),
        ({"groups": (replace(G, members=()), H)}, "line 4: 'group G 2': expected group <name>"),
        ({"groups": (replace(G, members=(b"A B",)), H)}, "no file says this"),
        ({"groups": [G, H]}, "no file says this"),
        ({"witnesses": ()}, f"line 2: 'A': {ABOVE}"),
        ({"witnesses": (*GOOD.witnesses, PolicyWitness(b"L", LOG, None))}, "its type is 0x01, expected 0x04"),
        ({"witnesses": (*GOOD.witnesses, PolicyWitness(b"", K3, None))}, "expected witness <name> <vkey> [<url>]"),
        ({"logs": (*GOOD.logs, *GOOD.logs)}, "line 2: a log with this public key is in line 1 already"),
        ({"logs": (PolicyLog(LOG, ""),)}, "no file says this"),
        ({"logs": (PolicyLog(LOG, "a b"),)}, "expected log <vkey> [<url>]"),
        ({"logs": (PolicyLog(LOG, "x\n#"),)}, "no file says this"),
        ({"logs": (PolicyLog(LOG, "\udcc3\udca9"),)}, "no file says this"),
        ({"logs": (PolicyLog(LOG, "x\ud800"),)}, "a URL has the lone surrogate '\\ud800'"),
        ({"logs": (PolicyLog(make_signer_key("\x7f", bytes(32)).verifier, None),)}, "line 1: has the octet 0x7f"),
    ],
)
def test_a_policy_that_no_file_can_hold_is_refused(changes: dict[str, Any], reason: str) -> None:
    """Also where nobody read it: a policy that was put together follows the same rules."""
    with pytest.raises(ConfigurationError, match=f"^policy: .*{re.escape(reason)}"):
        replace(GOOD, **changes)


def test_a_policy_is_put_together() -> None:
    """From parts that are right, and with a log that is known from elsewhere."""
    without = replace(GOOD, logs=())
    assert replace(without, logs=(PolicyLog(LOG, None),)) == GOOD
    assert format_policy(without) == b"".join(format_policy(GOOD).splitlines(keepends=True)[1:])
