"""What a mirror says of itself: only what it counted."""

from __future__ import annotations

import json

from mirrorwitness.mirror.about import make_about
from mirrorwitness.mirror.catalogue import RunRecord
from mirrorwitness.mirror.select import make_deny_rule, make_selection, parse_rule
from mirrorwitness.npm.signatures import SignaturePolicy, parse_keys
from tests.fakes.registry import Signer


def test_the_document_holds_what_was_counted() -> None:
    """Whole value; the schema is a contract."""
    signer = Signer()
    about = make_about(
        software="mirrorwitness/1",
        sources=["https://registry.example"],
        contact=None,
        policy=SignaturePolicy.VERIFY,
        keys=parse_keys(json.dumps({"keys": [signer.key()]}).encode()),
        run=RunRecord(
            started="1",
            finished="2",
            exit_code=3,
            last_complete="0",
            counts={
                "packages_unchanged": 1,
                "packages_updated": 2,
                "packages_unfinished": 3,
                "packages_diverged": 4,
                "versions": 5,
                "bytes": 6,
                "signature_verified": 4,
                "signature_unsigned": 1,
            },
        ),
        selection=make_selection(
            [parse_rule("a", origin="a test"), parse_rule("b-*", origin="a test")],
            [make_deny_rule("c", reason="bad", origin="a test")],
        ),
    )
    assert about == {
        "schema": "mirrorwitness-about-1",
        "software": "mirrorwitness/1",
        "kind": "partial",
        "selection": {"names": 1, "globs": 1, "deny_rules": 1},
        "sources": ["https://registry.example"],
        "contact": None,
        "signature_policy": "verify",
        "keyids": [signer.keyid],
        "last_run": "2",
        "last_complete": "0",
        "coverage": {
            "packages": 3,
            "packages_unfinished": 7,
            "versions": 5,
            "bytes": 6,
            "signatures": {"unsigned": 1, "verified": 4},
        },
        "note": "Every byte matched its digest when it was stored. That proves authenticity, never safety.",
    }
