"""Configuration: quantities, layers, and errors that name their place."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.config import DEFAULT_FILE, Config, find_config, load_config
from mirrorwitness.config.layers import parse_file, read_environment
from mirrorwitness.config.options import Limits, Registry, Serve
from mirrorwitness.config.quantities import ByteCount, ByteRate, Count, Seconds, parse_quantity
from mirrorwitness.errors import ConfigurationError, SelectionError
from mirrorwitness.mirror.select import make_deny_rule, make_rule
from mirrorwitness.npm.signatures import SignaturePolicy

if TYPE_CHECKING:
    from mirrorwitness.config.quantities import Quantity


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "m.toml"


def load(file: Path, text: str, environ: dict[str, str] | None = None, **flags: Any) -> Config:
    file.write_text(text, encoding="utf-8")
    return load_config(file, environ or {}, flags=flags)


def refuse(file: Path, text: str, environ: dict[str, str] | None = None, **flags: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(file, text, environ, **flags)
    return str(caught.value).replace(str(file), "m.toml")


class TestQuantities:
    @pytest.mark.parametrize(
        ("kind", "value", "expected"),
        [
            (ByteCount, "8 MiB", 8 * 1024**2),
            (ByteCount, "8MB", 8_000_000),
            (ByteCount, "1.5 kib", 1536),
            (ByteCount, "100", 100),
            (ByteCount, "100 B", 100),
            (ByteCount, 100, 100),
            (ByteCount, "2 TiB", 2 * 1024**4),
            (ByteRate, "16 KiB/s", 16384),
            (ByteRate, "16 KiB", 16384),
            (Seconds, "30 s", 30),
            (Seconds, "1.5 min", 90),
            (Seconds, "250 ms", 0.25),
            (Seconds, "2 h", 7200),
            (Seconds, "1 d", 86400),
            (Seconds, 0.5, 0.5),
            (Count, 7, 7),
            (Count, "7", 7),
            (Count, 7.0, 7),
        ],
    )
    def test_what_is_read(self, kind: Quantity, value: object, expected: float) -> None:
        """Numbers are base units; binary and decimal units differ."""
        found = parse_quantity(kind, value)
        assert (found, type(found)) == (expected, kind)

    @pytest.mark.parametrize(
        ("kind", "value"),
        [
            (ByteCount, "8 MiBs"),
            (ByteCount, "-1"),
            (ByteCount, -1),
            (ByteCount, "1e3"),
            (ByteCount, "0.3 B"),
            (ByteCount, "9999999 TiB"),
            (ByteCount, True),
            (ByteCount, None),
            (ByteCount, "8 MiB/s"),
            (ByteCount, "١٢"),
            (Seconds, math.nan),
            (Seconds, math.inf),
            (Seconds, "30 sec"),
            (Count, "7 MiB"),
            (Count, 7.5),
            (Count, ""),
        ],
    )
    def test_what_is_refused(self, kind: Quantity, value: object) -> None:
        """A limit is never guessed; the message says what was found and what is expected."""
        with pytest.raises(ValueError, match=re.escape(f"found {value!r}, expected {kind.expected}")):
            parse_quantity(kind, value)

    @given(st.integers(0, 2**50))
    def test_text_reads_back(self, number: int) -> None:
        """What is shown is what is meant."""
        for quantity in (ByteCount(number), ByteRate(number), Count(number), Seconds(number), Seconds(number / 1000)):
            assert math.isclose(parse_quantity(type(quantity), str(quantity)), quantity, rel_tol=1e-12)

    def test_text_is_short(self) -> None:
        """The largest unit that divides is used."""
        found = [
            str(item) for item in (ByteCount(0), ByteCount(2**31), ByteRate(1000), Seconds(0), Seconds(7200), Count(3))
        ]
        assert found == ["0 B", "2 GiB", "1000 B/s", "0 s", "2 h", "3"]


class TestLoad:
    def test_nothing_at_all(self) -> None:
        """Defaults without a file, a variable or a flag."""
        assert load_config(None, {}) == Config()

    def test_everything(self, file: Path) -> None:
        """Each option arrives with its type."""
        config = load(
            file,
            """
            storage = "file:./mirror"
            contact = "me@example.org"
            public_url = "https://npm.example.org/sub/"
            signatures = "require"
            names_from = "names.txt"
            spool_directory = "spool"
            [[registry]]
            url = "https://registry.example/"
            token_env = "MIRRORWITNESS_TOKEN"
            tarball_hosts = ["cdn.example"]
            [[registry]]
            url = "http://localhost:4873"
            [[select]]
            name = ["react@^18", "@babel/"]
            [[select]]
            name = "left"
            versions = "^1"
            latest = 2
            prereleases = true
            [[select]]
            lockfile = "app/package-lock.json"
            [[select]]
            lockfile = ["/a.json", "b.json"]
            [[deny]]
            name = ["evil", "evil-*"]
            versions = "<2"
            reason = "bad"
            [limits]
            tarball_max = "1 GiB"
            concurrency = 8
            [serve]
            listen = "[::1]:0"
            fresh_for = "250 ms"
            """,
            {"MIRRORWITNESS_TOKEN": "secret", "PATH": "/bin"},
        )
        base = file.parent
        assert config == Config(
            path=file,
            storage=f"file:{base / 'mirror'}",
            registries=(
                Registry(
                    url="https://registry.example", token_env="MIRRORWITNESS_TOKEN", tarball_hosts=("cdn.example",)
                ),
                Registry(url="http://localhost:4873"),
            ),
            contact="me@example.org",
            public_url="https://npm.example.org/sub",
            signatures=SignaturePolicy.REQUIRE,
            rules=(
                make_rule("react", versions="^18", origin=f"{file}: select[0]"),
                make_rule("@babel/*", origin=f"{file}: select[0]"),
                make_rule("left", versions="^1", latest=2, prereleases=True, origin=f"{file}: select[1]"),
            ),
            lockfiles=(base / "app/package-lock.json", Path("/a.json"), base / "b.json"),
            denied=(
                make_deny_rule("evil", versions="<2", reason="bad", origin=f"{file}: deny[0]"),
                make_deny_rule("evil-*", versions="<2", reason="bad", origin=f"{file}: deny[0]"),
            ),
            names_from=base / "names.txt",
            spool_directory=base / "spool",
            limits=Limits(tarball_max=ByteCount(2**30), concurrency=Count(8)),
            serve=Serve(listen="[::1]:0", fresh_for=Seconds(0.25)),
        )

    def test_flags_win_over_environment_wins_over_file(self, file: Path) -> None:
        """Tables merge key by key; what a stronger layer does not say stays."""
        config = load(
            file,
            'storage = "file:a"\ncontact = "a"\npublic_url = "http://a"\n'
            "[limits]\npackages = 1\nretries = 1\nconnections = 1",
            {
                "MIRRORWITNESS_CONTACT": "b",
                "MIRRORWITNESS_PUBLIC_URL": "http://b",
                "MIRRORWITNESS_LIMITS_RETRIES": "2",
                "MIRRORWITNESS_LIMITS_CONNECTIONS": "2",
                "MIRRORWITNESS_SERVE_TRUST_FORWARDED": "true",
                "MIRRORWITNESS_STORAGE": " ",
            },
            **{"public_url": "http://c", "limits.connections": 3, "contact": None, "storage": ()},
        )
        assert (config.storage, config.contact, config.public_url) == (f"file:{file.parent}/a", "b", "http://c")
        assert (config.limits.packages, config.limits.retries, config.limits.connections) == (1, 2, 3)
        assert config.serve.trust_forwarded is True

    def test_paths_are_relative_to_who_says_them(self, file: Path) -> None:
        """The file's to the file, a variable's and a flag's to the working directory; a bucket has no path."""
        text = 'storage = "file:a?fsync=off"\nnames_from = "n"\nspool_directory = "/s"'
        config = load(file, text)
        assert (config.storage, config.names_from) == (f"file:{file.parent}/a?fsync=off", file.parent / "n")
        assert config.spool_directory == Path("/s")
        config = load(file, text, {"MIRRORWITNESS_NAMES_FROM": "m"}, storage="file:b")
        assert (config.storage, config.names_from) == ("file:b", Path("m"))
        assert load(file, 'storage = "s3://b/p"').storage == "s3://b/p"

    def test_registries_in_short(self, file: Path) -> None:
        """One address, a list of addresses, a variable, a flag."""
        one = (Registry(url="http://a"),)
        two = (*one, Registry(url="http://b"))
        assert load(file, 'registry = "http://a"').registries == one
        assert load(file, 'registry = ["http://a", "http://b/"]').registries == two
        assert load(file, '[registry]\nurl = "http://a"').registries == one
        assert load(file, "", {"MIRRORWITNESS_REGISTRY": "http://a http://b"}).registries == two
        assert load(file, 'registry = "http://x"', registry=("http://a", "http://b")).registries == two

    def test_which_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The one given, the environment's, or the one that lies here."""
        monkeypatch.chdir(tmp_path)
        assert find_config(None, {}) is None
        Path(DEFAULT_FILE).touch()
        assert find_config(None, {}) == Path(DEFAULT_FILE)
        assert find_config(None, {"MIRRORWITNESS_CONFIG": "b.toml"}) == Path("b.toml")
        assert find_config(Path("a.toml"), {"MIRRORWITNESS_CONFIG": "b.toml"}) == Path("a.toml")
        assert load_config(None, {"MIRRORWITNESS_CONFIG": "b.toml"}) == Config()


class TestErrors:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("contact = 'a'\nstorage = =", "m.toml: not TOML: Invalid value (at line 2, column 11)"),
            ('contact = "a"\nstorage = "fi', "m.toml: not TOML: Unterminated string (at end of document)"),
            ("x = " + "[" * 10_000, "m.toml: is nested too deeply"),
            ('stor = "x"', "m.toml: stor: there is no such option; did you mean storage?"),
            (
                "[limits]\nconcurrenc = 1",
                "m.toml: limits.concurrenc: there is no such option; did you mean concurrency?",
            ),
            (
                "[[deny]]\nzzz = 1",
                "m.toml: deny[0].zzz: there is no such option; there are: name, reason, versions",
            ),
            ("storage = 3", "m.toml: storage: expected `str | null`, got `int` (found 3)"),
            ("limits = 3", "m.toml: limits: expected a table, got `int` (found 3)"),
            ("registry = 3", "m.toml: registry: expected `list`, got `int` (found 3)"),
            ("registry = [3]", "m.toml: registry[0]: expected a table, got `int` (found 3)"),
            ("[[registry]]\ntoken_env = 'X'", "m.toml: registry[0]: url is missing"),
            ("signatures = 'yes'", "m.toml: signatures: Invalid enum value 'yes' (found 'yes')"),
            (
                "[limits]\ntarball_max = '8 MeB'",
                "m.toml: limits.tarball_max: found '8 MeB', expected a size such as \"8 MiB\", or a number of bytes",
            ),
            ("[limits]\npackages = 0", "m.toml: limits.packages: found 0, expected at least 1"),
            (
                "registry = ['https://user:secret@h.example/']",
                "m.toml: registry[0].url: holds a user name or password; name the variable of a token with token_env",
            ),
            (
                "public_url = 'npm.example.org'",
                "m.toml: public_url: found 'npm.example.org', expected an http or https address without query",
            ),
            (
                "public_url = 'http://[x'",
                "m.toml: public_url: found 'http://[x', expected an http or https address without query",
            ),
            ("[scopes]\ncorp = 'http://a'", "m.toml: scopes: found 'corp', expected a scope such as @corp"),
            ("[scopes]\n'@a/b' = 'http://a'", "m.toml: scopes: found '@a/b', expected a scope such as @corp"),
            (
                "[scopes]\n'@a' = 'npm.example'",
                "m.toml: scopes.@a: found 'npm.example', expected an http or https address without query",
            ),
            ("[scopes]\n'@a' = 3", "m.toml: scopes[...]: expected `str`, got `int` (found {'@a': 3})"),
            ("[[select]]\nlatest = 1", "m.toml: select[0]: give name or lockfile, one of them"),
            ("[[select]]\nname = 'a'\nlockfile = 'b'", "m.toml: select[0]: give name or lockfile, one of them"),
            (
                "[[select]]\nlockfile = 'b'\nlatest = 1",
                "m.toml: select[0]: a lockfile pins exact versions; versions, latest and tag contradict it",
            ),
            (
                "[[select]]\nname = 'a'\nlatest = 0",
                "m.toml: select[0]: a: latest = 0 selects nothing: use 1 or more, or a [[deny]] rule",
            ),
            (
                "[[select]]\nname = 'a@'",
                "m.toml: select[0]: 'a@' has nothing behind the @: leave it away, or name a version",
            ),
        ],
    )
    def test_the_file_is_wrong(self, file: Path, text: str, message: str) -> None:
        """File, key, what was found and what is expected."""
        assert refuse(file, text) == message

    def test_contradictions_in_the_file_are_selection_errors(self, file: Path) -> None:
        """So that every contradictory selection has one type."""
        with pytest.raises(SelectionError):
            load(file, "[[select]]\nname = 'a'\nversions = 'no range'")

    def test_the_environment_is_wrong(self, file: Path) -> None:
        """The variable is named, also where its value is the fault."""
        assert refuse(file, "", {"MIRRORWITNESS_STORAG": "x"}) == (
            "environment variable MIRRORWITNESS_STORAG names no option; did you mean MIRRORWITNESS_STORAGE?"
        )
        assert refuse(file, "[limits]\npackages = 1", {"MIRRORWITNESS_LIMITS_PACKAGES": "many"}) == (
            "environment variable MIRRORWITNESS_LIMITS_PACKAGES: limits.packages: found 'many', expected a whole number"
        )

    def test_a_flag_is_wrong(self, file: Path) -> None:
        """The flag is named."""
        assert refuse(file, 'registry = "http://a"', registry=["x"]) == (
            "flag --registry: registry[0].url: found 'x', expected an http or https address without query"
        )
        assert refuse(file, "", {}, **{"limits.packages": 0}) == (
            "flag --packages: limits.packages: found 0, expected at least 1"
        )

    def test_unreadable_files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Missing, not text, too large."""
        missing = tmp_path / "missing.toml"
        with pytest.raises(ConfigurationError, match=r"missing\.toml: cannot be read: No such file"):
            load_config(missing, {})
        binary = tmp_path / "binary.toml"
        binary.write_bytes(b"a = 1\nb = '\xff'")
        with pytest.raises(ConfigurationError, match=r"binary\.toml: line 2: byte 0xff is not UTF-8 text"):
            load_config(binary, {})
        monkeypatch.setattr("mirrorwitness.config.load._MAX_FILE_BYTES", 5)
        with pytest.raises(ConfigurationError, match=r"binary\.toml: has 13 bytes, more than 5"):
            load_config(binary, {})

    def test_a_byte_order_mark_is_no_fault(self, file: Path) -> None:
        """Windows editors write one."""
        assert load(file, '\ufeffcontact = "x"').contact == "x"

    def test_settings_without_a_known_origin(self) -> None:
        """A layer that says nothing of its origins still gives a message."""
        with pytest.raises(ConfigurationError, match="flag --storage: storage: expected"):
            load_config(None, {}, flags={"storage": 3})


def test_layers_alone() -> None:
    """A token's variable is no option; an unknown one is an error."""
    layer = parse_file('registry = "http://a"', path="m.toml")
    assert layer.values == {"registry": [{"url": "http://a"}]}
    assert read_environment({"MIRRORWITNESS_TOKEN": "x", "OTHER": "y"}, tokens=["MIRRORWITNESS_TOKEN"]).values == {}
    with pytest.raises(ConfigurationError, match="environment variable MIRRORWITNESS_QQQ names no option; there are:"):
        read_environment({"MIRRORWITNESS_QQQ": "x"})
