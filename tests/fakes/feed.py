"""FeedSimulator: the replication feed of a registry simulator, honest by default and hostile on demand.

    sim = RegistrySimulator()
    feed = FeedSimulator(sim)
    sim.publish("left-pad", "1.0.0")
    feed.delay("left-pad", polls=2)
    feed.fail("/_changes", Fault.status(429, retry_after="1"))

It speaks the dialect of research/B 1.2 to 1.4, at ``/`` and at ``/registry/``:

- ``GET /``, ``GET /_changes?since=&limit=``, ``GET /_all_docs?limit=&startkey=&endkey=``; 404 for a document.
- Sequences are integers with gaps. One row per package: a newer change replaces the older row. Only tombstones have
  ``deleted``. Behind the head, ``since`` is echoed as ``last_seq`` with no results.
- 400 to every other parameter, to ``since=now`` and to a limit over 10,000.

What changes in the registry appears at once, with the revision that the packument has. The faults that concern what the
registry answers (`RegistrySimulator.hold_packument`, `serve_older`) are methods of the registry.
As a process: ``python -m tests.fakes.feed --demo 100 --interval 0.5`` prints ``registry at http://...`` and then
``listening on http://...``, and lets something random happen twice a second.

What it does not do: ``descending``, ``doc_ids``, ``keys``, ``inclusive_end``: they are answered with 400 like the rest,
although the real service is said to know them.
"""

from __future__ import annotations

import argparse
import bisect
import gzip
import itertools
import json
import sys
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote

import trio

from tests.fakes.feed_history import FeedHistory, apply
from tests.fakes.feed_rows import Rows
from tests.fakes.registry import RegistrySimulator, add_demo
from tests.fakes.registry_server import Fault, FaultPlan, RecordedRequest, Reply, json_reply
from tests.fakes.serving import serve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.fakes.feed_rows import Row

__all__ = ["FeedSimulator"]

MOUNT: Final = "/registry"
"""The database's path: everything is there too."""

_KNOWN: Final = {"/_changes": {"since", "limit"}, "/_all_docs": {"limit", "startkey", "startkey_docid", "endkey"}}


class _BadRequestError(Exception):
    """What the service answers 400 to."""


class FeedSimulator:
    """The feed of one registry simulator.

    Attributes:
        requests: every request so far, in order (unless `record` is off).
        latency: seconds before each answer.
        default_limit: rows of a page where the client names no limit.
        max_limit: the largest limit; more is answered with 400.
        page_cap: most rows that a page of changes really has, whatever was asked for; None: as many as asked for.
        rows: what the feed knows; its faults are methods here.
        base: where it listens; set by `serve`.
    """

    def __init__(self, registry: RegistrySimulator, *, prefix: str = "", seed: int = 0, record: bool = True) -> None:
        self.prefix = prefix
        self.base = "http://replicate.example" + prefix
        self.requests: list[RecordedRequest] = []
        self.latency = 0.0
        self.default_limit = 1_000
        self.max_limit = 10_000
        self.page_cap: int | None = None
        self.rows = Rows(seed=seed)
        self._record = record
        self._faults = FaultPlan()
        self._pages: list[tuple[Callable[[dict[str, Any]], None], int | None]] = []
        self._is_refusing = False
        self._has_text_seqs = False
        for name, rev in registry.revisions():
            self.rows.change(name, rev, is_deleted=False)
        registry.watchers.append(lambda name, rev, is_deleted: self.rows.change(name, rev, is_deleted=is_deleted))

    def __repr__(self) -> str:
        return f"<FeedSimulator {self.base}, {self.rows!r}, {len(self.requests)} requests>"

    # ---- faults of rows: what is announced, and when

    def delay(self, name: str, *, polls: int | None = None, until: float | None = None) -> None:
        """Let the next change of a package be late: its row appears behind positions that were already given out.

        Args:
            name: the package; its older row stays meanwhile.
            polls: how many answers of ``_changes`` do not have it yet.
            until: when it appears, by trio's clock.
        """
        self.rows.delay(name, polls=polls, until=until)

    def lose(self, name: str, *, everywhere: bool = False) -> None:
        """Let the next change of a package never appear; ``_all_docs`` has it all the same, unless `everywhere`."""
        self.rows.lose(name, everywhere=everywhere)

    def regress(self) -> None:
        """Let the head fall: all rows get new, lower sequences in the same order (as in May 2025)."""
        self.rows.regress()

    def announce(self, name: str, rev: str = "1-00000000000000000000000000000000", *, is_deleted: bool = False) -> None:
        """Announce what the registry knows nothing of.

        A package that it answers 404 for, a ``_design/`` id, or a revision that no packument will ever have.
        """
        self.rows.change(name, rev, is_deleted=is_deleted)

    # ---- faults of pages: how it is said

    def omit_last_seq(self, times: int | None = 1) -> None:
        """Leave ``last_seq`` out of the next pages (None: of all)."""
        self._pages.append((lambda page: page.pop("last_seq"), times))

    def reverse(self, times: int | None = 1) -> None:
        """Give the rows of the next pages newest first: not ascending; ``last_seq`` stays the highest."""
        self._pages.append((lambda page: page["results"].reverse(), times))

    def repeat(self, times: int | None = 1) -> None:
        """Give every row of the next pages twice."""
        self._pages.append((lambda page: page.update(results=[row for row in page["results"] for _ in "12"]), times))

    def use_text(self) -> None:
        """Make all sequences opaque strings, as CouchDB 2 has them: from now on in every answer."""
        self._has_text_seqs = True

    def refuse(self) -> None:
        """Answer everything with 400 from now on: the dialect has changed."""
        self._is_refusing = True

    def fail(self, where: str, fault: Fault, times: int | None = 1) -> None:
        """Misbehave at ``/``, ``/_changes`` or ``/_all_docs`` (also where they are asked for below ``/registry``).

        The faults are those of the registry: `Fault.status` (429, 503, with and without ``Retry-After``), `Fault.html`
        with 200, `Fault.half` and `Fault.truncated`, `Fault.drip`, `Fault.reset`, `Fault.hang`. They happen one after
        another, `times` times each (None: always).
        """
        self._faults.add(where, fault, times)

    def heal(self) -> None:
        """Forget the faults of pages and answers, and show late rows; what is lost stays lost."""
        self._faults.clear()
        self._pages.clear()
        self._is_refusing = False
        self.page_cap = None
        self.rows.show_late()

    # ---- answers

    def answer(self, request: RecordedRequest) -> Reply:
        """Return the reply to a request."""
        if self._record:
            self.requests.append(request)
        target, _, query = request.target.partition("?")
        path = unquote(target)
        if not path.startswith(self.prefix + "/") and path != self.prefix:
            return json_reply(404, {"error": "not_found", "reason": "no such path"})
        path = path.removeprefix(self.prefix) or "/"
        if path == MOUNT or path.startswith(MOUNT + "/"):
            path = path.removeprefix(MOUNT) or "/"
        try:
            reply = self._answer(request.method, path, dict(parse_qsl(query, keep_blank_values=True)))
        except _BadRequestError as error:
            reply = json_reply(400, {"error": "bad_request", "reason": str(error)})
        if reply.status == 200 and "gzip" in request.headers.get("accept-encoding", ""):
            packed = gzip.compress(reply.body, compresslevel=1, mtime=0)
            reply = Reply(200, (*reply.headers, ("content-encoding", "gzip")), packed)
        fault = self._faults.next(path)
        return reply if fault is None else fault.spoil(reply)

    def _answer(self, method: str, path: str, query: Mapping[str, str]) -> Reply:
        if method not in {"GET", "HEAD"}:
            return json_reply(405, {"error": "method_not_allowed"})
        if self._is_refusing:
            raise _BadRequestError("this interface has been replaced")
        if path == "/":  # the public root is not said to check parameters; nobody has a reason to send it any
            return json_reply(200, self._root())
        if path not in _KNOWN:
            return json_reply(404, {"error": "not_found", "reason": "no such path"})
        for parameter in query.keys() - _KNOWN[path]:
            raise _BadRequestError(f"unsupported parameter: {parameter}")
        limit = _parse_number("limit", query.get("limit", str(self.default_limit)))
        if limit > self.max_limit:
            raise _BadRequestError(f"limit: at most {self.max_limit}")
        return json_reply(200, self._changes(query, limit) if path == "/_changes" else self._all_docs(query, limit))

    def _root(self) -> dict[str, Any]:
        head = self._show(self.rows.head)
        return {"db_name": "registry", "engine": "npm-replicate", "doc_count": len(self.rows.docs), "update_seq": head}

    def _changes(self, query: Mapping[str, str], limit: int) -> dict[str, Any]:
        since = self._parse_since(query.get("since", "0"))
        if self.page_cap is not None:
            limit = min(limit, self.page_cap)
        found = self.rows.after(since, limit)
        last = found[-1].seq if found else since
        page = {"results": [self._show_row(row) for row in found], "last_seq": self._show(last)}
        if self._pages:
            spoil, times = self._pages[0]
            spoil(page)
            if times is not None:
                self._pages[:1] = [(spoil, times - 1)] if times > 1 else []
        return page

    def _all_docs(self, query: Mapping[str, str], limit: int) -> dict[str, Any]:
        start, end = _parse_key(query.get("startkey")), _parse_key(query.get("endkey"))
        if "startkey_docid" in query:  # seen to work quoted; CouchDB has it plain
            start = query["startkey_docid"].strip('"')
        names = self.rows.names()
        offset = 0 if start is None else bisect.bisect_left(names, start)
        behind = len(names) if end is None else bisect.bisect_right(names, end)
        wanted = names[offset : min(behind, offset + limit)]
        rows = [{"id": name, "key": name, "value": {"rev": self.rows.docs[name]}} for name in wanted]
        return {"total_rows": len(names), "offset": offset, "rows": rows}

    def _show_row(self, row: Row) -> dict[str, Any]:
        shown = {"seq": self._show(row.seq), "id": row.name, "changes": [{"rev": row.rev}]}
        return {**shown, "deleted": True} if row.is_deleted else shown

    def _show(self, seq: int) -> int | str:
        return f"{seq}-g1AAAA{seq:x}" if self._has_text_seqs else seq

    def _parse_since(self, text: str) -> int:
        if self._has_text_seqs and text != "0":
            number, _, rest = text.partition("-")
            if rest != f"g1AAAA{_parse_number('since', number):x}":
                raise _BadRequestError("since: malformed sequence")
            text = number
        return _parse_number("since", text)


def _parse_number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise _BadRequestError(f"{name}: not an integer: {text}")
    return int(text)


def _parse_key(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        key = json.loads(text)
    except ValueError as error:
        raise _BadRequestError(f"key: not JSON: {text}") from error
    if not isinstance(key, str):
        raise _BadRequestError(f"key: not a string: {text}")
    return key


async def _main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="tests.fakes.feed", description="A registry and its feed on loopback.")
    parser.add_argument("--port", type=int, default=0, help="of the feed")
    parser.add_argument("--registry-port", type=int, default=0)
    parser.add_argument("--demo", type=int, default=0, metavar="PACKAGES", help="that nothing happens to")
    parser.add_argument("--versions", type=int, default=1)
    parser.add_argument("--tarball-size", type=int, default=15_000, metavar="BYTES")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="of both")
    parser.add_argument("--interval", type=float, metavar="SECONDS", help="between random operations; without: none")
    parser.add_argument("--operations", type=int, metavar="COUNT", help="how many of them; without: no end")
    parser.add_argument("--names", type=int, default=10, metavar="PACKAGES", help="that they happen to")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    sim = RegistrySimulator(record=False, latency=options.latency_ms / 1000)
    add_demo(sim, options.demo, options.versions, tarball_size=options.tarball_size)
    feed = FeedSimulator(sim, record=False)
    feed.latency = sim.latency
    async with serve(sim, port=options.registry_port) as registry, serve(feed, port=options.port) as base:
        print(f"registry at {registry}\nlistening on {base}", flush=True)  # noqa: T201 - the contract of a process
        if options.interval is not None:
            history = FeedHistory(seed=options.seed, names=[f"random-package-{i:03d}" for i in range(options.names)])
            for _ in range(options.operations) if options.operations is not None else itertools.count():
                apply(history.next(), sim)
                await trio.sleep(options.interval)
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(_main, sys.argv[1:])
