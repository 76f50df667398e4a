"""Listing a directory storage in the byte order of keys, page by page. Blocking.

Rules:

- A directory sorts as its name plus a slash: ``a-b`` < ``a/b`` < ``a0``, as in a bucket.
- Memory does not grow with the number of objects (P10): of a directory, at most `BATCH_NAMES` names are held; those
  after them are selected by another pass over it.
- Pages are stateless. The batch of a large directory is kept for the next page and used only while the directory's
  modification time stands still and is old enough to be trusted, so a page sees every put that returned before it.
- An object that is kept in a cell (`mirrorwitness.storage.local_cells`) is listed under its own name.
"""

from __future__ import annotations

import heapq
import os
import time
from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.storage import check_key
from mirrorwitness.storage.local_cells import name_of_cell
from mirrorwitness.storage.local_files import stat_at
from mirrorwitness.storage.local_names import Names, decode_component, encode_component

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mirrorwitness.storage import ObjectInfo

__all__ = ["DirectoryLister"]

BATCH_NAMES: Final = 100_000
"""Names of one directory that are held at a time, about 10 MB; a directory of 4.4 M names takes 44 passes over it."""

CACHED_FROM_NAMES: Final = 1000
"""Smaller directories are read again for each page: that costs less than remembering them."""

CACHED_BATCHES: Final = 2
"""Batches remembered for the next page: one listing at a time is the usual case."""

SETTLED_SECONDS: Final = 2.0
"""Age of a modification time that no later change can repeat; the coarsest clock in use (FAT) ticks every two."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """Sorted names of one directory: all those from `first` on, or as many of them as a batch holds."""

    modified_ns: int
    first: str
    names: tuple[str, ...]
    is_last: bool

    def holds(self, lowest: str) -> bool:
        """Tell whether the batch has the first name from `lowest` on."""
        return self.first <= lowest and (self.is_last or lowest <= self.names[-1])


class DirectoryLister:
    """Lists the files below a root. Safe to use from several threads."""

    def __init__(self, root: str, names: Names) -> None:
        self._root = root
        self._format = names
        self._lock = Lock()
        self._batches: dict[str, _Batch] = {}

    def walk(self, prefix: str, after: str) -> Iterator[ObjectInfo]:
        """Yield the info of each object whose key starts with `prefix` and sorts after `after`."""
        directory = prefix[: prefix.rfind("/") + 1]
        return self._walk(directory, prefix, after)

    def _walk(self, directory: str, prefix: str, after: str) -> Iterator[ObjectInfo]:
        path = self._path(directory)
        lowest = _lowest_name(directory, prefix, after)
        if lowest is None:
            return
        rest = prefix[len(directory) :]
        for name in self._names(path, lowest):
            if rest and not name.startswith(rest):
                return  # sorted, so the first name beyond the prefix ends it
            key = directory + name
            if name.endswith("/"):
                yield from self._walk(key, key, after)
            elif key > after and (info := stat_at(key, self._path(key))) is not None:
                yield info

    def _names(self, path: str, lowest: str) -> Iterator[str]:
        last = ""
        while True:
            batch = self._batch(path, lowest)
            for name in batch.names[bisect_left(batch.names, lowest) :]:
                if name != last:  # a file, and the cell that it takes the place of
                    yield name
                last = name
            if batch.is_last:
                return
            lowest = batch.names[-1] + "\0"

    def _batch(self, path: str, lowest: str) -> _Batch:
        try:
            modified_ns = Path(path).stat().st_mtime_ns
        except (FileNotFoundError, NotADirectoryError):
            return _Batch(0, "", (), is_last=True)
        with self._lock:
            kept = self._batches.get(path)
        if kept and kept.modified_ns == modified_ns and kept.holds(lowest):
            return kept
        batch = self._read(path, lowest, modified_ns)
        self._keep(path, batch)
        return batch

    def _keep(self, path: str, batch: _Batch) -> None:
        is_settled = time.time_ns() - batch.modified_ns > SETTLED_SECONDS * 1e9
        if is_settled and len(batch.names) >= CACHED_FROM_NAMES:
            with self._lock:
                self._batches.pop(path, None)
                self._batches[path] = batch
                if len(self._batches) > CACHED_BATCHES:
                    del self._batches[next(iter(self._batches))]

    def _read(self, path: str, lowest: str, modified_ns: int) -> _Batch:
        try:
            with os.scandir(path) as entries:
                found = heapq.nsmallest(BATCH_NAMES + 1, self._decoded(entries, lowest))
        except (FileNotFoundError, NotADirectoryError):
            return _Batch(0, "", (), is_last=True)
        return _Batch(modified_ns, lowest, tuple(found[:BATCH_NAMES]), is_last=len(found) <= BATCH_NAMES)

    def _decoded(self, entries: Iterator[os.DirEntry[str]], lowest: str) -> Iterator[str]:
        for entry in entries:
            of_cell = name_of_cell(entry.name)
            if of_cell is not None and not entry.is_file(follow_symlinks=False):
                continue
            component = decode_component(of_cell or entry.name, self._format)
            if component is None or component + "/" < lowest or not _is_component(component):
                continue
            if of_cell is None and entry.is_dir(follow_symlinks=False):
                yield component + "/"
            elif component >= lowest and entry.is_file(follow_symlinks=False):
                yield component

    def _path(self, key: str) -> str:
        parts = (
            key.split("/")
            if self._format is Names.PLAIN
            else (encode_component(p, self._format) for p in key.split("/"))
        )
        return f"{self._root}/{'/'.join(parts)}"


def _lowest_name(directory: str, prefix: str, after: str) -> str | None:
    """Return where in a directory a listing starts, or None where all of the directory lies before `after`."""
    lowest = prefix[len(directory) :]
    if after.startswith(directory):
        head, slash, _ = after[len(directory) :].partition("/")
        return max(lowest, head + slash)
    return lowest if after < directory else None


def _is_component(name: str) -> bool:
    """Tell whether a file's name can be part of a key; foreign files and our own dot files are passed over."""
    try:
        check_key(name)
    except ConfigurationError:
        return False
    return True
