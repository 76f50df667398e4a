"""The one decision: every refusal, in its order, and what is kept (P1, P2, P5)."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest

from mirrorwitness.mirror.catalogue import HeldVersion
from mirrorwitness.mirror.gate import Block, BlockKind, Decision, changed_promise, decide, visible
from mirrorwitness.mirror.select import choose as choose_versions
from mirrorwitness.mirror.select import make_deny_rule, make_rule, make_selection, parse_rule
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.npm.packument import Packument, parse_packument
from mirrorwitness.npm.signatures import KeyRing, SignaturePolicy, parse_keys
from tests.fakes.registry import Signer

NAME = PackageName("left-pad")
BAD = "the registry's signature does not verify over name, version and integrity"
NO_KEYS = "signed, but the registry publishes no keys"
V1, V2 = Version("1.0.0"), Version("2.0.0")


def sri(body: bytes, algorithm: str = "sha512") -> str:
    return f"{algorithm}-{base64.b64encode(hashlib.new(algorithm, body).digest()).decode()}"


def sha1(body: bytes) -> str:
    return hashlib.sha1(body, usedforsecurity=False).hexdigest()


def make_packument(*, time: dict[str, str] | None = None, **versions: dict[str, Any]) -> Packument:
    """Return a document; keys are ``v1`` and ``v2``, values what stands in ``dist`` beside the tarball."""
    manifests: dict[str, Any] = {}
    for key, dist in versions.items():
        version = f"{key[1:]}.0.0"
        url = f"https://registry.example/left-pad/-/left-pad-{version}.tgz"
        manifests[version] = {"name": NAME, "version": dist.pop("version", version), "dist": {"tarball": url, **dist}}
    return parse_packument(json.dumps({"name": NAME, "versions": manifests, "time": time or {}}).encode(), name=NAME)


def hold(body: bytes, **changes: Any) -> HeldVersion:
    """Return what the record says of stored bytes."""
    known = {"integrity": sri(body), "shasum": sha1(body), **changes}
    return HeldVersion(file="left-pad-1.0.0.tgz", size=len(body), sri=sri(body), **known)


def judge(packument: Packument, *rules: str, **options: Any) -> Decision:
    """Decide about a document under a selection of everything, with no keys."""
    selection = make_selection(
        [parse_rule(text, origin="a test") for text in rules or ("left-pad",)], options.pop("denied", ())
    )
    choice = options.pop("choice", None) or choose_versions(selection, packument)
    return decide(packument, choice, **{"held": {}, "keys": KeyRing(), "policy": SignaturePolicy.VERIFY, **options})


def kinds(decision: Decision) -> list[tuple[str, BlockKind]]:
    return [(block.subject, block.kind) for block in decision.blocks]


def test_what_passes_is_wanted_with_all_that_is_needed_to_fetch_it() -> None:
    """In document order, missing until it is held."""
    packument = make_packument(v1={"integrity": sri(b"1"), "unpackedSize": 5}, v2={"shasum": sha1(b"2")})
    decision = judge(packument, held={V1: hold(b"1")})
    first, second = decision.wanted
    assert (first.version, first.file, first.held, first.size_hint) == (V1, "left-pad-1.0.0.tgz", hold(b"1"), 5)
    assert (second.version, second.expectation.strength, second.held) == (V2, "weak", None)
    assert [(item.integrity, item.shasum) for item in (first, second)] == [(sri(b"1"), None), (None, sha1(b"2"))]
    assert second.url == "https://registry.example/left-pad/-/left-pad-2.0.0.tgz"
    assert (decision.missing, decision.kept, decision.blocks) == ((second,), (), ())


def test_p5_a_stored_tarball_keeps_its_name() -> None:
    """Upstream moves it: the file that is stored counts, also where another version would now have that name."""
    packument = make_packument(v1={"integrity": sri(b"1")}, v2={"integrity": sri(b"2")})
    held = {V1: HeldVersion(file="left-pad-2.0.0.tgz", size=1, sri=sri(b"1"), integrity=sri(b"1"))}
    first, second = judge(packument, held=held).wanted
    assert first.file == "left-pad-2.0.0.tgz"
    assert second.file != first.file


def test_p2_visible_is_what_is_stored_and_what_is_kept() -> None:
    """Neither a missing tarball nor a refused version is named."""
    packument = make_packument(v1={"integrity": sri(b"1")}, v2={"integrity": sri(b"2")})
    decision = judge(packument, held={V1: hold(b"1")})
    item = decision.wanted[0].held
    assert item is not None
    assert visible(decision, stored={}, kept={}) == (V1,)
    assert visible(decision, stored={V2: item}, kept={}) == (V1, V2)
    assert visible(decision, stored={}, kept={Version("0.1.0"): item}) == (V1, "0.1.0")
    assert visible(decision, stored={}, kept={}, vouched={}) == ()
    assert visible(decision, stored={}, kept={}, vouched={V1: item.sri}) == (V1,)
    assert visible(decision, stored={}, kept={}, vouched={V1: sri(b"other")}) == ()


def test_what_is_not_selected_is_no_block() -> None:
    packument = make_packument(v1={"integrity": sri(b"1")}, v2={"integrity": sri(b"2")})
    decision = judge(packument, "left-pad@2")
    assert ([item.version for item in decision.wanted], decision.blocks) == ([V2], ())


def test_what_is_denied_or_asked_for_in_vain_is_a_block_of_its_kind() -> None:
    """The selection's own refusals come first."""
    packument = make_packument(v1={"integrity": sri(b"1")})
    denied = [make_deny_rule("left-pad", versions="1", reason="bad", origin="a test")]
    assert kinds(judge(packument, denied=denied)) == [("1.0.0", BlockKind.POLICY)]
    assert kinds(judge(packument, "left-pad@9.9.9")) == [("9.9.9", BlockKind.MISSING)]


def test_row_05_a_lockfile_that_pins_other_bytes_keeps_what_is_served() -> None:
    """The version is a divergence; what we hold and serve is carried over, what we hold and hide is not."""
    packument = make_packument(v1={"integrity": sri(b"1")})
    rule = make_rule("left-pad", pins={V1: sri(b"mine")}, origin="package-lock.json")
    choice = choose_versions(make_selection([rule]), packument)
    for served in (True, False):
        decision = judge(packument, choice=choice, held={V1: hold(b"1", served=served)})
        assert decision.kept == ((V1,) if served else ())
        assert (kinds(decision), decision.wanted) == ([("1.0.0", BlockKind.EQUIVOCATION)], ())


def test_row_23_a_version_that_contradicts_itself_is_malformed() -> None:
    """It wins over every other reason."""
    packument = make_packument(v1={"version": "6.6.6", "signatures": [{"keyid": "x", "sig": "AAAA"}]})
    (block,) = judge(packument, policy=SignaturePolicy.REQUIRE).blocks
    assert (block.subject, block.kind) == ("1.0.0", BlockKind.MALFORMED)
    assert "6.6.6" in block.reason


@pytest.mark.parametrize("dist", [{}, {"integrity": "md5-1B2M2Y8AsgTpgAmY7PhCfg=="}, {"shasum": "xyz"}])
def test_row_10_nothing_to_check_against(dist: dict[str, str]) -> None:
    """No digest, none that counts, none that can be read."""
    reason = "upstream gives neither integrity nor shasum to check the bytes against"
    assert judge(make_packument(v1=dict(dist))).blocks == (Block("1.0.0", BlockKind.NO_DIGEST, reason),)


@pytest.mark.parametrize(
    ("dist", "mine", "change"),
    [
        ({"integrity": sri(b"1")}, hold(b"1"), None),
        ({"integrity": sri(b"2")}, hold(b"1"), f"upstream now promises {sri(b'2')}, the bytes stored first are"),
        ({"integrity": sri(b"1", "sha384")}, hold(b"1", integrity=sri(b"1", "sha384")), None),
        (
            {"integrity": sri(b"2", "sha384")},
            hold(b"1", integrity=sri(b"1", "sha384")),
            f"upstream now promises {sri(b'2', 'sha384')}, the bytes stored first are",
        ),
        ({"integrity": sri(b"2", "sha384")}, hold(b"1"), None),
        ({"shasum": sha1(b"1")}, hold(b"1"), "upstream no longer promises any integrity, the bytes stored first were"),
        ({"shasum": sha1(b"1").upper()}, hold(b"1", integrity=None), None),
        ({"shasum": sha1(b"2")}, hold(b"1", integrity=None), f"upstream now promises shasum {sha1(b'2')}, the bytes"),
        ({}, hold(b"1", integrity=None), "upstream now promises shasum None, the bytes stored first have"),
        ({}, hold(b"1", integrity=None, shasum=None), None),
        ({"integrity": sri(b"1")}, hold(b"1", integrity=None), None),
        (
            {"integrity": sri(b"2")},
            hold(b"1", integrity=None),
            f"upstream now promises {sri(b'2')}, the bytes stored first are",
        ),
        ({"integrity": f"{sri(b'2')} {sri(b'1')}"}, hold(b"1", integrity=f"{sri(b'2')} {sri(b'1')}"), None),
        ({"integrity": sri(b"1")}, hold(b"1", integrity=f"{sri(b'2')} {sri(b'1')}"), None),
        (
            {"integrity": sri(b"2")},
            hold(b"1", integrity=f"{sri(b'2')} {sri(b'1')}"),
            f"upstream now promises {sri(b'2')}, the bytes stored first are",
        ),
        (
            {"integrity": f"{sri(b'2')} {sri(b'1', 'sha1')}"},
            hold(b"1", integrity=sri(b"1", "sha1")),
            f"upstream now promises {sri(b'2')} {sri(b'1', 'sha1')}, the bytes stored first are",
        ),
    ],
)
def test_row_05_a_promise_that_contradicts_the_bytes_we_hold(
    dist: dict[str, str], mine: HeldVersion, change: str | None
) -> None:
    """Compared by SHA-512 of the bytes where that is possible, by the old promise otherwise; a vanished one is one."""
    found = changed_promise(make_packument(v1=dict(dist)).versions[V1], mine)
    assert (found is None) == (change is None)
    assert (found or "").startswith(change or "")


def test_row_05_an_equivocation_is_blocked_and_kept() -> None:
    """P5: the block says both promises; the version is kept where it was served, and not wanted."""
    decision = judge(make_packument(v1={"integrity": sri(b"2")}), held={V1: hold(b"1")})
    assert decision == Decision(
        wanted=(),
        kept=(V1,),
        blocks=(
            Block(
                "1.0.0",
                BlockKind.EQUIVOCATION,
                f"left-pad@1.0.0: upstream now promises {sri(b'2')}, the bytes stored first are {sri(b'1')}",
            ),
        ),
    )
    assert judge(make_packument(v1={"integrity": sri(b"2")}), held={V1: hold(b"1", served=False)}).kept == ()


@pytest.mark.parametrize(
    ("dist", "mine", "is_trusted"),
    [
        ({"integrity": sri(b"1")}, hold(b"1"), True),
        ({"integrity": sri(b"1")}, hold(b"1", integrity=None), True),
        ({"integrity": sri(b"1", "sha384")}, hold(b"1", integrity=sri(b"1", "sha384")), True),
        ({"shasum": sha1(b"1")}, hold(b"1", integrity=None), True),
        ({"integrity": sri(b"1", "sha384")}, hold(b"1"), False),
        ({"integrity": sri(b"1", "sha1")}, hold(b"1"), False),
    ],
)
def test_p1_bytes_are_read_again_where_a_new_promise_cannot_be_compared(
    dist: dict[str, str],
    mine: HeldVersion,
    is_trusted: bool,  # noqa: FBT001
) -> None:
    """Another algorithm for a version that we hold makes it missing, so that its bytes are checked."""
    decision = judge(make_packument(v1=dict(dist)), held={V1: mine})
    assert (decision.wanted[0].held == mine, decision.missing == ()) == (is_trusted, is_trusted)


def test_p5_wrong_bytes_are_missing_and_their_promise_still_counts() -> None:
    """What an audit found damaged is fetched again, under its own name, if upstream's promise is the old one."""
    mine = {V1: hold(b"1")}
    good = judge(make_packument(v1={"integrity": sri(b"1")}), held=mine, wrong={V1})
    assert [(item.version, item.file, item.held) for item in good.missing] == [(V1, "left-pad-1.0.0.tgz", None)]
    other = judge(make_packument(v1={"integrity": sri(b"2")}), held=mine, wrong={V1})
    assert (other.wanted, kinds(other)) == ((), [("1.0.0", BlockKind.EQUIVOCATION)])


class TestSignatures:
    SIGNER = Signer()

    def dist(self, **changes: Any) -> dict[str, Any]:
        return {"integrity": sri(b"1"), "signatures": [self.SIGNER.sign(NAME, V1, sri(b"1"))], **changes}

    def keys(self, expires: str | None = None) -> KeyRing:
        return parse_keys(json.dumps({"keys": [{**self.SIGNER.key(), "expires": expires}]}).encode())

    def test_row_12_a_key_counts_for_what_was_published_before_it_expired(self) -> None:
        """The time of publication is the document's."""
        for published, blocks in (("2019-06-01T00:00:00Z", []), ("2021-06-01T00:00:00Z", ["1.0.0"])):
            packument = make_packument(v1=self.dist(), time={"1.0.0": published})
            decision = judge(packument, keys=self.keys("2020-01-01T00:00:00Z"))
            assert [block.subject for block in decision.blocks] == blocks

    def test_with_the_policy_off_no_signature_is_looked_at(self) -> None:
        """What is recorded then never says that something was verified, or that it was bad."""
        for policy, outcome in ((SignaturePolicy.OFF, "unsigned"), (SignaturePolicy.VERIFY, "verified")):
            (item,) = judge(make_packument(v1=self.dist()), keys=self.keys(), policy=policy).wanted
            assert item.signature == outcome

    @pytest.mark.parametrize(
        ("changes", "keys", "policy", "block"),
        [
            ({}, True, "require", None),
            ({"integrity": sri(b"2")}, True, "verify", Block(V1, BlockKind.SIGNATURE, f"{BAD} (policy: verify)")),
            ({"signatures": []}, True, "require", Block(V1, BlockKind.UNSIGNED, "not signed (policy: require)")),
            ({}, False, "require", Block(V1, BlockKind.UNSIGNED, f"{NO_KEYS} (policy: require)")),
            ({"signatures": []}, True, "verify", None),
            ({"integrity": sri(b"2")}, True, "off", None),
        ],
    )
    def test_row_12_each_refusal_says_why(
        self,
        changes: dict[str, Any],
        keys: bool,  # noqa: FBT001
        policy: str,
        block: Block | None,
    ) -> None:
        """A bad signature is a divergence, a missing one is not."""
        ring = self.keys() if keys else KeyRing()
        decision = judge(make_packument(v1=self.dist(**changes)), keys=ring, policy=SignaturePolicy(policy))
        assert decision.blocks == (() if block is None else (block,))


def test_p3_each_kind_has_its_consequence() -> None:
    """Three kinds are divergences, two are unfinished, the others are complete."""
    divergences = {BlockKind.SIGNATURE, BlockKind.EQUIVOCATION, BlockKind.CONTRADICTED}
    assert {kind for kind in BlockKind if kind.is_divergence} == divergences
    assert {kind for kind in BlockKind if kind.is_unfinished} == {BlockKind.MISSING, BlockKind.UNVOUCHED}
