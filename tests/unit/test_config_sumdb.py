"""`[sumdb]`: keys, address, policy and what they mean, from file, environment and flags."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mirrorwitness.config import CheckedLog, Registry, load_config, parse_sumdb_flag
from mirrorwitness.errors import ConfigurationError
from mirrorwitness.mirror.confusion import ConfusionPolicy
from mirrorwitness.mirror.voucher import LogCheck
from mirrorwitness.run.voucher import name_terms, read_log_registry, read_log_terms
from mirrorwitness.tlog.keys import KeyType, make_signer_key

KEY = make_signer_key("sumdb.example", bytes([1] * 32)).verifier
KEY_PQ = make_signer_key("sumdb.example", bytes([2] * 32), KeyType.ML_DSA_44).verifier
OTHER = make_signer_key("other.example", bytes([3] * 32)).verifier
URL = "https://sumdb.example/log"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "m.toml"


def test_everything_in_the_file(file: Path) -> None:
    """Each option arrives with its type; the policy lies beside the file."""
    file.write_text(
        f'[sumdb]\nurl = "{URL}/"\nvkeys = ["{KEY}", "{KEY_PQ}"]\npolicy = "p"\ncheck = "warn"\nconfusion = "refuse"\n'
        'registry = "https://registry.example/npm/"\n'
    )
    assert load_config(file, {}).log == CheckedLog(
        url=URL,
        keys=(KEY, KEY_PQ),
        policy=file.parent / "p",
        registry="https://registry.example/npm",
        check=LogCheck.WARN,
        confusion=ConfusionPolicy.REFUSE,
    )


def test_environment_and_flags_win(file: Path) -> None:
    """Keys stand with spaces between them; paths of variables and flags are relative to where we are."""
    file.write_text('[sumdb]\nurl = "https://old.example"\n')
    environ = {
        "MIRRORWITNESS_SUMDB_URL": URL,
        "MIRRORWITNESS_SUMDB_VKEYS": f"{KEY} {KEY_PQ}",
        "MIRRORWITNESS_SUMDB_POLICY": "p",
    }
    log = load_config(file, environ).log
    assert (log.url, log.keys, log.policy, log.confusion) == (URL, (KEY, KEY_PQ), Path("p"), ConfusionPolicy.REPORT)
    flags = {"sumdb.vkeys": (str(OTHER),), "sumdb.url": "http://x.example"}
    log = load_config(file, environ, flags=flags).log
    assert (log.url, log.keys) == ("http://x.example", (OTHER,))


def test_nothing_is_asked_by_default() -> None:
    """Without a checksum database nobody is asked, and nobody looks into tarballs."""
    log = load_config(None, {}).log
    assert (log, log.confusion, read_log_terms(log)) == (CheckedLog(), ConfusionPolicy.OFF, None)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"sumdb.url": "ftp://x"}, "flag --sumdb: sumdb.url: found 'ftp://x'"),
        ({"sumdb.vkeys": ("nonsense",)}, "flag --sumdb: sumdb.vkeys: verifier key 'nonsense'"),
        ({"sumdb.vkeys": (str(KEY), str(OTHER))}, "keys of different logs: other.example, sumdb.example"),
        ({"sumdb.check": "maybe"}, "sumdb.check"),
        ({"sumdb.registry": "ftp://x"}, "sumdb.registry: found 'ftp://x'"),
        ({"sumdb.registry": "https://x_y.example"}, "registry 'https://x_y.example': expected http(s)://host"),
    ],
)
def test_what_is_refused(flags: dict[str, object], reason: str) -> None:
    """The message names the flag and what is wrong."""
    with pytest.raises(ConfigurationError) as caught:
        load_config(None, {}, flags=flags)
    assert reason in str(caught.value)


@pytest.mark.parametrize("keys", [(KEY,), (KEY_PQ,), (KEY, KEY_PQ)])
def test_the_flag(keys: tuple[object, ...]) -> None:
    """``VKEY=URL`` although base64 may end in ``=``; several keys with commas between them."""
    text = ",".join(map(str, keys))
    assert parse_sumdb_flag(f"{text}={URL}?x=http://y") == (tuple(map(str, keys)), f"{URL}?x=http://y")


@pytest.mark.parametrize("text", ["", str(KEY), URL, f"={URL}", f"{KEY}=ftp://x"])
def test_what_is_no_flag(text: str) -> None:
    """It says what is expected."""
    with pytest.raises(ConfigurationError, match="expected VKEY=URL"):
        parse_sumdb_flag(text)


def test_a_key_that_stands_twice_is_one() -> None:
    """In a file and in a flag, or in a list that was pasted twice."""
    assert load_config(None, {}, flags={"sumdb.vkeys": (str(KEY), str(KEY_PQ), str(KEY))}).log.keys == (KEY, KEY_PQ)


@pytest.mark.parametrize(
    ("option", "urls", "expected"),
    [
        (None, ["https://registry.example/"], "registry.example"),
        (None, ["http://127.0.0.1:4873/npm", "https://other.example"], "127.0.0.1:4873/npm"),
        (None, [], None),
        ("any", ["https://registry.example"], None),
        ("https://origin.example", ["https://mirror.example"], "origin.example"),
    ],
)
def test_whose_names_the_records_have_to_be(option: str | None, urls: list[str], expected: str | None) -> None:
    """Those of the registry that is mirrored, if nothing else is said."""
    flags = {"sumdb.registry": option} if option else {}
    config = replace(load_config(None, {}, flags=flags), registries=tuple([Registry(url=url) for url in urls]))
    assert read_log_registry(config) == expected


def test_terms(tmp_path: Path) -> None:
    """The log's keys with or without a policy; another policy is another name."""
    alone = read_log_terms(CheckedLog(url=URL, keys=(KEY,)))
    assert alone is not None
    assert (alone.origin, alone.asks_witnesses) == ("sumdb.example", False)
    witness = make_signer_key("w.example", bytes([4] * 32), KeyType.COSIGNATURE).verifier
    (tmp_path / "p").write_text(f"witness w {witness}\nquorum w\n")
    with_policy = read_log_terms(CheckedLog(url=URL, keys=(KEY,), policy=tmp_path / "p"))
    assert with_policy is not None
    assert with_policy.asks_witnesses
    assert len({name_terms(alone), name_terms(with_policy), name_terms(None)}) == 3
    assert name_terms(alone).startswith("sumdb.example ")


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (CheckedLog(url=URL), "sumdb.vkeys is missing"),
        (CheckedLog(keys=(KEY,)), "sumdb.url is missing"),
        (CheckedLog(policy=Path("p")), "p: a policy, and no checksum database"),
        (CheckedLog(url=URL, keys=(KEY,), policy=Path("absent")), "absent: cannot be read"),
    ],
)
def test_what_cannot_be_asked(log: CheckedLog, reason: str) -> None:
    """Refused before anything is done, with what is missing."""
    with pytest.raises(ConfigurationError, match=reason):
        read_log_terms(log)


def test_off_needs_nothing() -> None:
    """A log that is switched off is not looked at."""
    assert read_log_terms(CheckedLog(url=URL, check=LogCheck.OFF)) is None
