"""One suite for every feed that a follower is tested against: the dialect of research/B 1.2 to 1.4.

Here it runs against the simulator, without sockets and over loopback, in `tests/real/test_feed_contract.py` against a
real database. What the simulator can do wrong on purpose is tested beside it (`tests/unit/fakes`).
"""

from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import pytest

from tests.fakes.feed import FeedSimulator
from tests.fakes.feed_history import FeedHistory, Life, apply
from tests.fakes.registry import RecordedRequest, RegistrySimulator, serve
from tests.fakes.registry_build import default_files, integrity_of, make_tarball
from tests.fakes.thread import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.fakes.feed_history import Upstream

NAMES = ["-", "@scope/name", "alpha", "beta", "gamma"]

ACCEPT = {"accept": "application/json"}


@dataclass(frozen=True, slots=True)
class Subject:
    """What is tested.

    Attributes:
        upstream: what changes it.
        get: asks at a URL: status and body.
        feed: URL of the feed.
        registry: URL of the registry.
    """

    upstream: Upstream
    get: Callable[[str], tuple[int, bytes]]
    feed: str
    registry: str

    def ask(self, target: str) -> dict[str, Any]:
        """Return the feed's answer."""
        status, body = self.get(self.feed + target)
        assert status == 200, body
        parsed: dict[str, Any] = json.loads(body)
        return parsed

    def rows(self, since: int = 0) -> list[dict[str, Any]]:
        """Return the rows after a position."""
        found: list[dict[str, Any]] = self.ask(f"/_changes?since={since}")["results"]
        return found

    def packument(self, name: str) -> tuple[int, Any]:
        """Return the registry's answer for a package."""
        status, body = self.get(f"{self.registry}/{quote(name, safe='@')}")
        return status, json.loads(body)

    def publish(self, *names: str) -> None:
        """Publish a version of each."""
        for name in names:
            self.upstream.publish(name, "1.0.0")


def get(url: str) -> tuple[int, bytes]:
    """Ask over a socket."""
    request = urllib.request.Request(url, headers=ACCEPT)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@contextmanager
def _open_simulator(*, is_served: bool) -> Iterator[Subject]:
    registry = RegistrySimulator()
    feed = FeedSimulator(registry)

    def get_directly(url: str) -> tuple[int, bytes]:
        parts = urlsplit(url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        sim: FeedSimulator | RegistrySimulator = feed if url.startswith(feed.base) else registry
        reply = sim.answer(RecordedRequest("GET", target, ACCEPT))
        if isinstance(reply, bytes):
            return int(reply.split(b" ")[1]), reply.partition(b"\r\n\r\n")[2]
        return reply.status, reply.body

    with ExitStack() as stack:
        if is_served:
            stack.enter_context(run_in_thread(serve(registry)))
            stack.enter_context(run_in_thread(serve(feed)))
        yield Subject(registry, get if is_served else get_directly, feed.base, registry.base)


@pytest.fixture(params=["direct", "loopback"])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    with _open_simulator(is_served=request.param == "loopback") as opened:
        yield opened


def test_root_names_engine_and_counts(subject: Subject) -> None:
    """The root has four members and is below ``/registry`` too; its head is that of the changes."""
    subject.publish("alpha", "beta", "alpha")
    root = subject.ask("/")
    head = subject.rows()[-1]["seq"]
    assert root == {"db_name": "registry", "engine": "npm-replicate", "doc_count": 2, "update_seq": head}
    assert subject.ask("/registry") == subject.ask("/registry/") == root


def test_empty_feed(subject: Subject) -> None:
    """A feed without changes answers with none, and echoes the position."""
    assert subject.ask("/_changes") == {"results": [], "last_seq": 0}
    assert subject.ask("/_all_docs") == {"total_rows": 0, "offset": 0, "rows": []}


def test_row_has_the_packuments_revision(subject: Subject) -> None:
    """A row is integer sequence, name and the revision that the packument has, and nothing else."""
    for name in NAMES:
        subject.publish(name)
    rows = subject.rows()
    assert [row["id"] for row in rows] == NAMES
    for row in rows:
        _, document = subject.packument(row["id"])
        assert row == {"seq": row["seq"], "id": row["id"], "changes": [{"rev": document["_rev"]}]}
        number, _, digest = document["_rev"].partition("-")
        assert (type(row["seq"]), number, len(digest)) == (int, "1", 32)
        assert int(digest, 16) >= 0


def test_changes_are_also_below_the_database(subject: Subject) -> None:
    """``/registry/_changes`` and ``/registry/_all_docs`` are the same."""
    subject.publish("alpha", "beta")
    for target in ("/_changes?since=0&limit=1", "/_all_docs?limit=1"):
        assert subject.ask(f"/registry{target}") == subject.ask(target)


def test_one_row_per_package(subject: Subject) -> None:
    """A newer change replaces the older row, at the head."""
    subject.publish("alpha", "beta")
    first = {row["id"]: row["seq"] for row in subject.rows()}
    subject.upstream.publish("alpha", "2.0.0")
    rows = subject.rows()
    assert [row["id"] for row in rows] == ["beta", "alpha"]
    assert rows[0]["seq"] == first["beta"]
    assert rows[1]["seq"] > first["beta"]
    assert rows[1]["changes"][0]["rev"].startswith("2-")


def test_each_kind_of_change_is_one_revision(subject: Subject) -> None:
    """Publish, tag, deprecate, unpublish, security holder: ordinary rows, each one revision higher."""
    upstream = subject.upstream
    steps: list[Callable[[], object]] = [
        lambda: upstream.publish("alpha", "1.0.0"),
        lambda: upstream.publish("alpha", "1.1.0-beta.1", tag="next"),
        lambda: upstream.set_tag("alpha", "beta", "1.0.0"),
        lambda: upstream.deprecate("alpha", "1.0.0", "too old"),
        lambda: upstream.deprecate("alpha", None, ""),
        lambda: upstream.unpublish("alpha", "1.1.0-beta.1"),
        lambda: upstream.unpublish("alpha"),
        lambda: upstream.publish("alpha", "2.0.0"),
        lambda: upstream.replace_by_holder("alpha"),
    ]
    seq = 0
    for number, step in enumerate(steps, 1):
        step()
        (row,) = subject.rows(seq)
        assert (row["id"], row["changes"][0]["rev"].partition("-")[0], "deleted" in row) == (
            "alpha",
            str(number),
            False,
        )
        assert subject.packument("alpha")[1]["_rev"] == row["changes"][0]["rev"]
        seq = row["seq"]


def test_unpublished_package_is_a_stub(subject: Subject) -> None:
    """A whole package that was unpublished has ``time.unpublished`` and neither versions nor dist-tags."""
    subject.publish("alpha")
    subject.upstream.unpublish("alpha")
    status, document = subject.packument("alpha")
    assert (status, "versions" in document, "dist-tags" in document) == (200, False, False)
    assert document["time"]["unpublished"]["versions"] == ["1.0.0"]
    assert subject.ask("/")["doc_count"] == 1


def test_published_after_unpublish(subject: Subject) -> None:
    """Published again, a stub has versions again; the time of the old version stays."""
    subject.publish("alpha")
    subject.upstream.unpublish("alpha")
    subject.upstream.publish("alpha", "2.0.0")
    _, document = subject.packument("alpha")
    assert (list(document["versions"]), document["dist-tags"]) == (["2.0.0"], {"latest": "2.0.0"})
    assert set(document["time"]) == {"created", "modified", "1.0.0", "2.0.0"}


def test_deleted_document_is_a_tombstone(subject: Subject) -> None:
    """A deleted document has a row with ``deleted``, answers 404, and is in no list."""
    subject.publish("alpha", "beta")
    subject.upstream.remove("alpha")
    rows = subject.rows()
    assert [row["id"] for row in rows] == ["beta", "alpha"]
    assert rows[1]["deleted"] is True
    assert rows[1]["changes"][0]["rev"].startswith("2-")
    assert subject.packument("alpha")[0] == 404
    assert [row["id"] for row in subject.ask("/_all_docs")["rows"]] == ["beta"]
    assert subject.ask("/")["doc_count"] == 1


def test_published_after_delete(subject: Subject) -> None:
    """Published again, revisions go on where the tombstone was, and the row is an ordinary one."""
    subject.publish("alpha")
    subject.upstream.remove("alpha")
    subject.upstream.publish("alpha", "2.0.0")
    (row,) = subject.rows()
    _, document = subject.packument("alpha")
    assert (row["changes"], "deleted" in row) == ([{"rev": document["_rev"]}], False)
    assert document["_rev"].startswith("3-")
    assert list(document["versions"]) == ["2.0.0"]


def test_security_holder(subject: Subject) -> None:
    """A security holder is one version without maintainers; the times of older versions stay."""
    subject.publish("alpha")
    subject.upstream.replace_by_holder("alpha")
    _, document = subject.packument("alpha")
    assert (document["description"], document["repository"]) == ("security holding package", "npm/security-holder")
    assert list(document["versions"]) == ["0.0.1-security"]
    assert "maintainers" not in document
    assert "1.0.0" in document["time"]


@pytest.mark.parametrize("ahead", [0, 1, 1_000_000])
def test_behind_the_head_nothing_is_said(subject: Subject, ahead: int) -> None:
    """At the head and above it: 200, no rows, and the position that was asked for (research/B 1.3)."""
    subject.publish("alpha")
    position = subject.ask("/")["update_seq"] + ahead
    assert subject.ask(f"/_changes?since={position}") == {"results": [], "last_seq": position}


def test_pages_give_every_row_once(subject: Subject) -> None:
    """Pages end at their last row; a page that is exactly full is followed by an empty one."""
    subject.publish(*NAMES, "delta")
    found, since = [], 0
    for size in (2, 2, 2, 0):
        page = subject.ask(f"/_changes?since={since}&limit=2")
        assert len(page["results"]) == size
        if size:
            assert page["last_seq"] == page["results"][-1]["seq"] > since
        found += [row["id"] for row in page["results"]]
        since = page["last_seq"]
    assert found == [*NAMES, "delta"]
    assert since == subject.ask("/")["update_seq"]


def test_limits(subject: Subject) -> None:
    """10,000 rows may be asked for, not more."""
    subject.publish("alpha")
    for path in ("/_changes", "/_all_docs"):
        assert subject.get(f"{subject.feed}{path}?limit=10000")[0] == 200
        assert subject.get(f"{subject.feed}{path}?limit=10001")[0] == 400


@pytest.mark.parametrize(
    "target",
    [
        "/_changes?feed=continuous",
        "/_changes?feed=longpoll&since=0",
        "/_changes?feed=eventsource",
        "/_changes?timeout=1000",
        "/_changes?since=now",
        "/_changes?since=-1",
        "/_changes?include_docs=true",
        "/_changes?limit=many",
        "/_all_docs?include_docs=true",
        "/_all_docs?update_seq=true",
        "/_all_docs?skip=1",
    ],
)
def test_refused_parameters(subject: Subject, target: str) -> None:
    """What the migration of 2025 took away is answered with 400, each alone (research/B 1.2)."""
    assert subject.get(subject.feed + target)[0] == 400
    assert subject.get(f"{subject.feed}/registry{target}")[0] == 400


def test_documents_are_not_at_the_feed(subject: Subject) -> None:
    """The feed has no packuments."""
    subject.publish("alpha")
    assert subject.get(f"{subject.feed}/alpha")[0] == 404


def test_all_docs_lists_live_documents(subject: Subject) -> None:
    """Rows come in the order of names, with key and revision."""
    subject.publish(*reversed(NAMES))
    subject.upstream.publish("beta", "2.0.0")
    page = subject.ask("/_all_docs")
    revs = {row["id"]: row["changes"][0]["rev"] for row in subject.rows()}
    assert page == {
        "total_rows": 5,
        "offset": 0,
        "rows": [{"id": name, "key": name, "value": {"rev": revs[name]}} for name in NAMES],
    }


def test_all_docs_pages_begin_with_the_key(subject: Subject) -> None:
    """``startkey`` is quoted and inclusive: the first row of a later page is the last one of the page before."""
    subject.publish(*NAMES)
    found: list[str] = []
    start = ""
    for _ in range(4):
        page = subject.ask(f"/_all_docs?limit=2&startkey={quote(json.dumps(start), safe='')}")
        # PouchDB's offset is always 0; nobody may count on it.
        assert (page["total_rows"], type(page["offset"])) == (5, int)
        found += [row["id"] for row in page["rows"] if row["id"] != start]
        start = found[-1]
    assert found == NAMES
    assert subject.ask("/_all_docs?startkey_docid=%22beta%22&limit=1")["rows"][0]["id"] == "beta"


def test_all_docs_between_keys(subject: Subject) -> None:
    """Both keys are inclusive, and need not be documents."""
    subject.publish(*NAMES)

    def between(start: str, end: str) -> list[str]:
        keys = f"startkey={quote(json.dumps(start))}&endkey={quote(json.dumps(end))}"
        return [row["id"] for row in subject.ask(f"/_all_docs?{keys}")["rows"]]

    assert between("alpha", "beta") == ["alpha", "beta"]
    assert between("@scope/", "@scope0") == ["@scope/name"]
    assert between("beta0", "zeta") == ["gamma"]
    assert between("x", "z") == []


def test_tarballs_are_what_manifests_promise(subject: Subject) -> None:
    """Where ``dist.tarball`` points, there are the bytes of its digests."""
    for name in ("alpha", "@scope/name", "-"):
        published = subject.upstream.publish(name, "1.0.0")
        dist = subject.packument(name)[1]["versions"]["1.0.0"]["dist"]
        status, body = subject.get(dist["tarball"])
        assert (status, body) == (200, published)
        assert published == make_tarball(default_files(name, "1.0.0"), name=name, version="1.0.0")
        assert dist["integrity"] == integrity_of(body)
        assert dist["shasum"] == hashlib.sha1(body, usedforsecurity=False).hexdigest()


def test_tarballs_go_with_their_versions(subject: Subject) -> None:
    """Unpublished, deleted or replaced, a version has no tarball any more."""
    subject.publish("alpha", "beta", "gamma")
    urls = [subject.packument(name)[1]["versions"]["1.0.0"]["dist"]["tarball"] for name in ("alpha", "beta", "gamma")]
    subject.upstream.unpublish("alpha")
    subject.upstream.remove("beta")
    subject.upstream.replace_by_holder("gamma")
    assert [subject.get(url)[0] for url in urls] == [404, 404, 404]


def test_scoped_names_in_every_encoding(subject: Subject) -> None:
    """A scoped name is found with its slash plain, or encoded in either case."""
    subject.publish("@scope/name")
    answers = [subject.get(f"{subject.registry}/@scope{slash}name") for slash in ("/", "%2f", "%2F")]
    assert answers == [(200, answers[0][1])] * 3


@pytest.mark.parametrize("seed", range(3))
def test_history_is_told_coherently(subject: Subject, seed: int) -> None:
    """After any history, rows, list and documents say the same: what the model says."""
    history = FeedHistory(seed=seed, names=NAMES)
    seen = 0
    for _ in range(60):
        operation = history.next()
        apply(operation, subject.upstream)
        (row,) = subject.rows(seen)
        assert row["id"] == operation.name
        seen = row["seq"]
    rows = {row["id"]: row for row in subject.rows()}
    listed = {row["id"]: row["value"]["rev"] for row in subject.ask("/_all_docs")["rows"]}
    for name, package in history.packages.items():
        if package.life is Life.UNKNOWN:
            assert name not in rows
            continue
        assert rows[name]["changes"][0]["rev"].partition("-")[0] == str(package.changes)
        assert rows[name].get("deleted", False) == (package.life is Life.DELETED)
        assert listed.get(name) == (None if package.life is Life.DELETED else rows[name]["changes"][0]["rev"])
        status, document = subject.packument(name)
        assert (status == 404) == (package.life is Life.DELETED)
        assert document.get("_rev") == listed.get(name)
        versions = document.get("versions", {})
        assert (list(versions), document.get("dist-tags", {})) == (package.versions, package.tags)
        said = {version: item["deprecated"] for version, item in versions.items() if "deprecated" in item}
        assert said == package.deprecated
