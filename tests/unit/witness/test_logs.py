"""The logs of a witness: origins and keys, and that nobody has two roles."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.tlog.checkpoint import GO_ORIGIN, origin_hash
from mirrorwitness.tlog.cosignature import MAX_NAME_BYTES
from mirrorwitness.tlog.keys import KeyType, VerifierKey, make_signer_key, parse_verifier_key
from mirrorwitness.witness.logs import (
    LogSet,
    WitnessedLog,
    parse_log_flag,
    parse_log_flags,
)
from tests.unit.witness.world import LOG, LOG_KEY, LOG_PQ, NEXT, OTHER, OURS, OURS_PQ, Log

GO_KEY = parse_verifier_key(
    (Path(__file__).parents[2] / "data/tlog/notes/sumdb.vkeys").read_text(encoding="utf-8").strip()
)
OWN = (OURS.verifier, OURS_PQ.verifier)


def test_logs_are_found_by_origin_and_by_its_hash() -> None:
    """All of them, in order, and nothing else."""
    logs = LogSet([LOG.witnessed, OTHER.witnessed], cosigners=OWN)
    assert list(logs) == [LOG.witnessed, OTHER.witnessed]
    assert len(logs) == 2
    assert repr(logs) == "<LogSet of 2 logs>"
    digest = hashlib.sha256(b"log.example/b").hexdigest()
    assert origin_hash("log.example/b") == digest
    assert (logs.get("log.example/b"), logs.by_hash(digest)) == (OTHER.witnessed, OTHER.witnessed)
    assert (logs.get("log.example/c"), logs.by_hash("0" * 64)) == (None, None)


def test_a_log_has_several_keys() -> None:
    """Two types under one name, which is how a log changes to another algorithm."""
    both = Log(LOG_KEY, LOG_PQ).witnessed
    assert LogSet([both], cosigners=OWN).get(LOG.origin) == both


def test_longest_origin() -> None:
    """An ML-DSA-44 cosignature holds 255 bytes of it, in UTF-8."""
    longest = "é" * 127 + "x"
    assert len(longest.encode()) == MAX_NAME_BYTES
    assert len(LogSet([replace(LOG.witnessed, origin=longest)], cosigners=OWN)) == 1


def test_the_key_of_go_s_database_is_go_s() -> None:
    """Go's own key is accepted under its origin, whose name it does not have."""
    log = parse_log_flag(str(GO_KEY))
    assert (log.origin, log.keys) == (GO_ORIGIN, (GO_KEY,))
    assert LogSet([log], cosigners=OWN).get("go.sum database tree") == log


def _log(origin: str, *keys: VerifierKey) -> WitnessedLog:
    return WitnessedLog(origin, keys)


@pytest.mark.parametrize(
    ("logs", "said"),
    [
        ([_log("", LOG_KEY.verifier)], "expected an origin of 1 to 255 bytes"),
        ([_log("a\nb", LOG_KEY.verifier)], "expected an origin of 1 to 255 bytes"),
        ([_log("x" * 256, LOG_KEY.verifier)], "expected an origin of 1 to 255 bytes"),
        ([_log("witness.example/w1", LOG_KEY.verifier)], "has the name of this witness: no name has two roles"),
        ([_log("log.example/a")], "expected keys of the types that logs have"),
        ([_log("log.example/a", NEXT.verifier)], "expected keys of the types that logs have"),
        (
            [_log("log.example/a", make_signer_key("witness.example/w1", bytes(32)).verifier)],
            "a key has the name of this witness",
        ),
        (
            [_log("log.example/a", replace(LOG_PQ.verifier, public=OURS_PQ.verifier.public))],
            "is also that of the witness",
        ),
        (
            [_log("log.example/a", VerifierKey("log.example/a", OURS.verifier.public))],
            "its key log.example/a is also that of the witness witness.example/w1",
        ),
        ([_log("log.example/a", LOG_KEY.verifier), _log("x", LOG_KEY.verifier)], "is also that of the log 'log.exa"),
        (
            [_log("log.example/a", LOG_KEY.verifier), _log("x", replace(LOG_KEY.verifier, name="another"))],
            "is also that of the log 'log.example/a'",
        ),
        ([_log("log.example/a", LOG_KEY.verifier), _log("log.example/a", LOG_PQ.verifier)], "is there twice"),
        ([_log("log.example/a", LOG_KEY.verifier, LOG_KEY.verifier)], "the same name and the same ID"),
        ([_log(GO_ORIGIN, LOG_KEY.verifier)], "is Go's own checksum database, and this key is not Go's"),
        ([_log(GO_ORIGIN, GO_KEY, LOG_KEY.verifier)], "is Go's own checksum database, and this key is not Go's"),
    ],
)
def test_wrong_logs_are_refused(logs: list[WitnessedLog], said: str) -> None:
    """Each with a message that names the log, or the role that its key or name has already."""
    with pytest.raises(ConfigurationError, match=said):
        LogSet(logs, cosigners=OWN)


@pytest.mark.parametrize(
    ("cosigners", "said"),
    [
        ((OURS.verifier, OURS.verifier), "two of the witness's keys are the same"),
        ((OURS.verifier, replace(OURS.verifier, name="another")), "two of the witness's keys are the same"),
        (
            (OURS.verifier, make_signer_key(OURS.name, bytes(32), KeyType.COSIGNATURE).verifier),
            "have the same name and type",
        ),
        ((replace(OURS.verifier, name="w" * 256),), "has more than 255 bytes"),
    ],
)
def test_wrong_keys_of_the_witness_are_refused(cosigners: tuple[VerifierKey, ...], said: str) -> None:
    """One public key, or one name and type, twice; a name that no cosignature can hold."""
    with pytest.raises(ConfigurationError, match=said):
        LogSet([LOG.witnessed], cosigners=cosigners)


@pytest.mark.parametrize("key", [LOG_KEY.verifier, LOG_PQ.verifier])
def test_a_flag_is_a_key_and_perhaps_a_url(key: VerifierKey) -> None:
    """The base64 of a key may end in an equals sign; the origin is the key's name."""
    assert parse_log_flag(str(key)) == WitnessedLog("log.example/a", (key,))
    url = "https://log.example/a?x=y"
    assert parse_log_flag(f"{key}={url}") == WitnessedLog("log.example/a", (key,), url)


@pytest.mark.parametrize(
    "text", ["", "=", "=https://x", "log.example/a", str(OURS.verifier), f"{LOG_KEY.verifier}=ftp://x", "a\n"]
)
def test_a_flag_that_is_none(text: str) -> None:
    """A cosigner's key is no log's, and a URL is one of HTTP."""
    with pytest.raises(ConfigurationError, match="verifier key"):
        parse_log_flag(text)


def test_several_flags_of_one_log_are_its_keys() -> None:
    """Each key once, in order, and the last URL that is given; other logs stay apart."""
    a, b, url = str(LOG_KEY.verifier), str(LOG_PQ.verifier), "https://log.example/a"
    other = str(OTHER.witnessed.keys[0])
    assert parse_log_flags([]) == []
    assert parse_log_flags([f"{a}=http://old.example", other, f"{b}={url}", a]) == [
        WitnessedLog("log.example/a", (LOG_KEY.verifier, LOG_PQ.verifier), url),
        OTHER.witnessed,
    ]


def test_a_set_grows_under_the_same_rules() -> None:
    """What breaks one leaves nothing behind: neither the log nor a role of any of its keys."""
    logs = LogSet([LOG.witnessed], cosigners=OWN)
    bad = _log("x", NEXT.verifier, LOG_KEY.verifier)
    pq = replace(LOG_PQ.verifier, name="x")
    for log, said in ((bad, "types that logs have"), (_log("x", pq, LOG_KEY.verifier), "also that of the log")):
        with pytest.raises(ConfigurationError, match=said):
            logs.add(log)
    with pytest.raises(ConfigurationError, match="is there twice"):
        logs.add(LOG.witnessed)
    assert list(logs) == [LOG.witnessed]
    for known in logs:  # a look at it does not mind
        logs.add(_log("y", pq))
        assert known == LOG.witnessed
    assert list(logs) == [LOG.witnessed, _log("y", pq)]


def test_disabled_logs_are_exactly_those_that_are_named() -> None:
    """Found by origin and by hash as they are; only what changed is given; names that are no log's mean nothing."""
    logs = LogSet([LOG.witnessed, OTHER.witnessed], cosigners=OWN)
    off = replace(LOG.witnessed, is_disabled=True)
    assert logs.disable({LOG.origin, "nobody"}) == (off,)
    assert logs.disable({LOG.origin}) == ()
    assert (logs.get(LOG.origin), logs.by_hash(origin_hash(LOG.origin))) == (off, off)
    assert logs.disable({OTHER.origin}) == (LOG.witnessed, replace(OTHER.witnessed, is_disabled=True))
    assert list(logs) == [LOG.witnessed, replace(OTHER.witnessed, is_disabled=True)]


def test_a_copy_is_a_set_of_its_own() -> None:
    """It has the same rules, and what it takes in is not in the other."""
    logs = LogSet([LOG.witnessed], cosigners=OWN)
    twin = logs.copy()
    with pytest.raises(ConfigurationError, match="also that of the witness"):
        twin.add(_log("x", VerifierKey("x", OURS.verifier.public)))
    twin.add(OTHER.witnessed)
    assert (len(logs), len(twin)) == (1, 2)
    logs.add(replace(OTHER.witnessed, origin="z"))
