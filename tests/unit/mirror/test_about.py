"""What a mirror says of itself: only what it counted, and signed as it stands."""

from __future__ import annotations

import hashlib
import json

import pytest

from mirrorwitness.mirror.about import LISTED, Kind, find_kind, format_about, make_about, sign_about
from mirrorwitness.mirror.catalogue import RunRecord
from mirrorwitness.mirror.coverage import Coverage
from mirrorwitness.mirror.nodes import Head
from mirrorwitness.mirror.select import Selection, make_deny_rule, make_rule, make_selection, parse_rule
from mirrorwitness.npm.signatures import KeyRing, SignaturePolicy, parse_keys
from mirrorwitness.tlog.keys import make_signer_key
from mirrorwitness.tlog.note import open_note
from tests.fakes.registry import Signer

RUN = RunRecord(
    started="1",
    finished="2",
    exit_code=3,
    last_complete="0",
    counts={"packages_unfinished": 3, "packages_diverged": 4, "versions": 1},
)
COVERAGE = Coverage(packages=3, versions=5, bytes=6, signatures={"verified": 4, "unsigned": 1}, counted="1")
HEAD = Head(format="mirrorwitness-summary-1", root="0" * 64, versions=5, packages=3, updated="2")
KEY = make_signer_key("mirror.example", bytes(32))


def select(*names: str) -> Selection:
    return make_selection([parse_rule(name, origin="a test") for name in names])


def digest(*items: str) -> str:
    return hashlib.sha256("".join(f"{item}\n" for item in items).encode()).hexdigest()


def test_the_document_holds_what_was_counted() -> None:
    """Whole value; the schema is a contract."""
    signer = Signer()
    about = make_about(
        software="mirrorwitness/1",
        sources=["https://registry.example"],
        contact=None,
        policy=SignaturePolicy.VERIFY,
        keys=parse_keys(json.dumps({"keys": [signer.key()]}).encode()),
        run=RUN,
        selection=make_selection(
            [parse_rule("b-*", origin="a test"), parse_rule("z", origin="a test"), parse_rule("a", origin="a test")],
            [make_deny_rule("c", reason="bad", origin="a test")],
        ),
        coverage=COVERAGE,
        summary=HEAD,
        lag=12.6,
        mirror_key=str(KEY.verifier),
    )
    assert json.loads(format_about(about)) == {
        "schema": "mirrorwitness-about-2",
        "software": "mirrorwitness/1",
        "kind": "partial",
        "selection": {
            "names": {"count": 2, "sha256": digest("a", "z"), "list": ["a", "z"]},
            "globs": {"count": 1, "sha256": digest("b-*"), "list": ["b-*"]},
            "deny_rules": 1,
        },
        "sources": ["https://registry.example"],
        "contact": None,
        "mirror_key": str(KEY.verifier),
        "signature_policy": "verify",
        "keyids": [signer.keyid],
        "lag_seconds": 13,
        "last_run": "2",
        "last_complete": "0",
        "packages_unfinished": 7,
        "coverage": {
            "packages": 3,
            "versions": 5,
            "bytes": 6,
            "signatures": {"unsigned": 1, "verified": 4},
            "counted": "1",
        },
        "summary": {
            "format": "mirrorwitness-summary-1",
            "root": "0" * 64,
            "packages": 3,
            "versions": 5,
            "updated": "2",
        },
        "note": "Every byte matched its digest when it was stored. That proves authenticity, never safety.",
    }


def describe(selection: Selection, *, is_audited: bool = False) -> dict[str, object]:
    """Describe a mirror of which nothing but the selection is known."""
    return make_about(
        software="mirrorwitness/1",
        sources=[],
        contact=None,
        policy=SignaturePolicy.OFF,
        keys=KeyRing(),
        run=RUN,
        selection=selection,
        coverage=None,
        summary=None,
        is_audited=is_audited,
    )


def test_what_was_not_counted_is_null() -> None:
    """No coverage, no summary, no lag, no key; and of many names only number and digest."""
    names = sorted(f"name-{number}" for number in range(LISTED + 1))
    about = describe(select(*names))
    assert [about[key] for key in ("coverage", "summary", "lag_seconds", "mirror_key")] == [None] * 4
    assert about["selection"] == {
        "names": {"count": LISTED + 1, "sha256": digest(*names), "list": None},
        "globs": {"count": 0, "sha256": digest(), "list": []},
        "deny_rules": 0,
    }


def test_the_kind_follows_from_the_selection() -> None:
    """Full is everything of everything, nothing less; audited is what an auditor approved of any selection."""
    everything = make_rule("*", origin="a test")
    assert find_kind(make_selection([everything, parse_rule("a", origin="a test")])) is Kind.FULL
    for rule in (
        make_rule("*", latest=3, origin="a test"),
        make_rule("*", versions=">=1", origin="a test"),
        make_rule("*", tag="latest", origin="a test"),
        make_rule("@babel/*", origin="a test"),
    ):
        assert find_kind(make_selection([rule])) is Kind.PARTIAL
    denied = make_deny_rule("a", reason="bad", origin="a test")
    assert find_kind(make_selection([everything], [denied])) is Kind.PARTIAL
    assert describe(make_selection([everything]), is_audited=True)["kind"] == "audited"


def test_the_note_s_text_is_the_document() -> None:
    """To the byte, and a newline; the schema stands first, so nothing else that this key signs looks like it."""
    body = format_about(describe(select("a")))
    assert body.startswith(b'{"schema":"mirrorwitness-about-2"')
    note, _ = open_note(sign_about(body, KEY), [KEY.verifier])
    assert note.text == body + b"\n"


@pytest.mark.parametrize("contact", ["ops\n\n— mirror.example AAAA", "tab\there", "é"])
def test_no_field_breaks_the_note(contact: str) -> None:
    """Newlines and control characters of any field are escaped by JSON: a contact cannot end the text early."""
    about = describe(select("a")) | {"contact": contact}
    note, _ = open_note(sign_about(format_about(about), KEY), [KEY.verifier])
    assert json.loads(note.text) == about
