"""What each path means, and that no path means anything else."""

from __future__ import annotations

import pytest

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.npm.names import PackageName
from mirrorwitness.server.routes import (
    AboutNoteRoute,
    AboutRoute,
    AttestationsRoute,
    DistTagsRoute,
    Fixed,
    FixedRoute,
    KeysRoute,
    NoRoute,
    PackumentRoute,
    ProofRoute,
    Route,
    SummaryRoute,
    TarballRoute,
    VersionRoute,
    ViewRoute,
    parse_path,
)

SCOPED = PackageName("@s/n")
PLAIN = PackageName("n")


@pytest.mark.parametrize("path", ["/@s%2fn", "/@s%2Fn", "/@s/n", "/%40s%2Fn", "/%40s/n", "/@s/n/", "/%40%73%2f%6e"])
def test_all_forms_of_a_scoped_name_are_one_package(path: str) -> None:
    """Every spelling that a client uses names the same package."""
    assert parse_path(path) == PackumentRoute(SCOPED)


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/n", PackumentRoute(PLAIN)),
        ("/Buffer", PackumentRoute(PackageName("Buffer"))),
        ("/about", PackumentRoute(PackageName("about"))),
        ("/-", PackumentRoute(PackageName("-"))),
        ("/-/", PackumentRoute(PackageName("-"))),
        ("/-/-/--0.0.1.tgz", TarballRoute(PackageName("-"), "--0.0.1.tgz")),
        ("/n/1.0.0", VersionRoute(PLAIN, "1.0.0")),
        ("/n/latest", VersionRoute(PLAIN, "latest")),
        ("/@s%2fn/1.0.0", VersionRoute(SCOPED, "1.0.0")),
        ("/@s/n/next", VersionRoute(SCOPED, "next")),
        ("/n/-/n-1.0.0.tgz", TarballRoute(PLAIN, "n-1.0.0.tgz")),
        ("/@s%2fn/-/n-1.0.0.tgz", TarballRoute(SCOPED, "n-1.0.0.tgz")),
        ("/@s/n/-/n-1.0.0.tgz", TarballRoute(SCOPED, "n-1.0.0.tgz")),
        ("/n/-/n-1.0.0%2Bb.tgz", TarballRoute(PLAIN, "n-1.0.0+b.tgz")),
        ("/n/-/n-1.0.0.tgz.tlog-proof", ProofRoute(PLAIN, "n-1.0.0.tgz")),
        ("/@s%2fn/-/n-1.0.0.tgz.tlog-proof", ProofRoute(SCOPED, "n-1.0.0.tgz")),
        ("/n/-/.tlog-proof", TarballRoute(PLAIN, ".tlog-proof")),
        ("/-/at/41/n", ViewRoute(41, PackumentRoute(PLAIN))),
        ("/-/at/0/@s%2fn/", ViewRoute(0, PackumentRoute(SCOPED))),
        ("/%2d/at/41/n/latest", ViewRoute(41, VersionRoute(PLAIN, "latest"))),
        ("/-/at/41/at", ViewRoute(41, PackumentRoute(PackageName("at")))),
        ("/-/at/41/n/-/n-1.0.0.tgz", ViewRoute(41, TarballRoute(PLAIN, "n-1.0.0.tgz"))),
        ("/-/at/41/n/-/n-1.0.0.tgz.tlog-proof", ViewRoute(41, ProofRoute(PLAIN, "n-1.0.0.tgz"))),
        ("/-/at/41/-/package/n/dist-tags", ViewRoute(41, DistTagsRoute(PLAIN))),
        ("/-/at/41/-/npm/v1/keys", ViewRoute(41, KeysRoute())),
        ("/-/at/41/-/npm/v1/attestations/n@1.0.0", ViewRoute(41, AttestationsRoute(PLAIN, "1.0.0"))),
        ("/-/at/41/-/ping", FixedRoute(Fixed.PING)),
        ("/-/package/n/dist-tags", DistTagsRoute(PLAIN)),
        ("/-/package/@s%2fn/dist-tags", DistTagsRoute(SCOPED)),
        ("/-/package/@s/n/dist-tags", DistTagsRoute(SCOPED)),
        ("/-/npm/v1/keys", KeysRoute()),
        ("/-/npm/v1/attestations/n@1.0.0", AttestationsRoute(PLAIN, "1.0.0")),
        ("/-/npm/v1/attestations/@s/n@1.0.0", AttestationsRoute(SCOPED, "1.0.0")),
        ("/-/npm/v1/attestations/@s%2fn@1.0.0", AttestationsRoute(SCOPED, "1.0.0")),
        ("/-/npm/v1/attestations/%40s%2Fn%401.0.0", AttestationsRoute(SCOPED, "1.0.0")),
        ("/-/about.json", AboutRoute()),
        ("/-/about", AboutRoute()),
        ("/-/about.json.note", AboutNoteRoute()),
        (f"/-/summary/ab/{'ab' * 32}", SummaryRoute("ab" * 32)),
        ("/-/ping", FixedRoute(Fixed.PING)),
        ("/-/ping/", FixedRoute(Fixed.PING)),
        ("/%2d/ping", FixedRoute(Fixed.PING)),
        ("/-/whoami", FixedRoute(Fixed.WHOAMI)),
        ("/-/healthz", FixedRoute(Fixed.HEALTH)),
        ("/-/readyz", FixedRoute(Fixed.READY)),
    ],
)
def test_path_means_route(path: str, route: Route) -> None:
    """Each form of research/B 2.4 and 2.8 has exactly this meaning."""
    assert parse_path(path) == route


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/-/v1/search", "no search"),
        ("/-/all", "no search"),
        ("/-/npm/v1/security/advisories/bulk", "no advisories"),
        ("/-/npm/v1/security/audits/quick", "no advisories"),
        ("/-/npm/v1/tokens", "no accounts"),
        ("/-/user/org.couchdb.user:me", "no accounts"),
        ("/-/org/x/team", "no accounts"),
        ("/-/v1/login", "no accounts"),
        ("/-/unknown", "answers"),
        ("/", "answers"),
        ("//", "answers"),
        ("/n//", "answers"),
        ("/n/-", "answers"),
        ("/n/-/a/b", "answers"),
        ("/n/-/", "answers"),
        ("/n/-rev/1-a", "answers"),
        ("/-/package/n/x/dist-tags", "answers"),
        ("/-/package//dist-tags", "answers"),
        ("/-/npm/v1/attestations/n", "answers"),
        ("/-/npm/v1/attestations/n@", "answers"),
        ("/-/npm/v1/attestations/..%2f@1", "answers"),
    ],
)
def test_absent_route_says_what_to_use(path: str, word: str) -> None:
    """A path that a read-only mirror does not have gets a sentence about it."""
    route = parse_path(path)
    assert isinstance(route, NoRoute)
    assert word in route.reason


@pytest.mark.parametrize(
    "path",
    [
        "/..",
        "/../state/run/last.json",
        "/..%2f..%2fetc%2fpasswd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/%2e%2e%2fstate",
        "/%252e%252e%252fstate",
        "/@s%252fn",
        "/@../n",
        "/@s/..",
        "/@s%2f..",
        "/@s%2f..%2fn",
        "/@s%2fn%2fx",
        "/n%00",
        "/n%2f-%2fn-1.0.0.tgz",
        "/n%5c..%5cx",
        "/.hidden",
        "/_private",
        "/%40",
        "/@",
        "/@s",
        "/@/n",
        "/%20n",
        "/n%0d%0ax",
        "/" + "n" * 215,
        "/node_modules",
        "/favicon.ico",
        "/n%E2%80%AE",
    ],
)
def test_row_20_attack_path_traversal_is_no_package(path: str) -> None:
    """Row 20: no escape, dot or control character reaches a package."""
    assert isinstance(parse_path(path), NoRoute)


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("/n/../x", ".."),
        ("/n/-/..%2f..%2fpackument.json", "../../packument.json"),
        ("/n/-/%00", "\0"),
        ("/n/-/..", ".."),
        ("/n/%2e%2e%2f", "../"),
    ],
)
def test_row_20_attack_traversal_behind_a_name_is_only_text(path: str, part: str) -> None:
    """Row 20: behind a name, what is decoded is a text to compare; it has no meaning of its own."""
    route = parse_path(path)
    assert route in {TarballRoute(PLAIN, part), VersionRoute(PLAIN, part)} or isinstance(route, NoRoute)


@pytest.mark.parametrize(
    "path", ["", "n", "http://mirror.example/n", "*", "/%", "/%2", "/%zz", "/n/%ff", "/n/-/%c3%28"]
)
def test_malformed_path_is_refused(path: str) -> None:
    """What is not a percent-encoded path is the client's error."""
    with pytest.raises(ConfigurationError):
        parse_path(path)


@pytest.mark.parametrize(
    "rest",
    [
        f"ab/{'AB' * 32}",
        f"AB/{'ab' * 32}",
        f"ac/{'ab' * 32}",
        f"ab/{'ab' * 31}",
        f"ab/{'ab' * 33}",
        "ab/..%2f..%2fstate",
        f"{'ab' * 32}",
        "",
    ],
)
def test_a_node_is_asked_for_by_its_digest_only(rest: str) -> None:
    """64 lower-case hex digits behind their first two; nothing else becomes part of a key."""
    assert isinstance(parse_path(f"/-/summary/{rest}"), NoRoute)
