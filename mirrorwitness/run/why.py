"""Read what the storage knows of one package or version, for `status --why`. Asks nobody, writes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirrorwitness.errors import ConfigurationError, SelectionError
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.catalogue import Catalogue
from mirrorwitness.mirror.explain import Explanation, Facts, explain
from mirrorwitness.mirror.keep import read_stored
from mirrorwitness.npm.names import PackageName, Version, parse_name
from mirrorwitness.run.session import open_mirror

if TYPE_CHECKING:
    from mirrorwitness.mirror.select import Selection
    from mirrorwitness.run.session import Wishes

__all__ = ["explain_subject", "parse_subject"]


def parse_subject(text: str) -> tuple[PackageName, str | None]:
    """Read ``name``, ``name@version`` or ``name@tag``.

    Raises:
        ConfigurationError: it is none of them.
    """
    name, at, version = text.rpartition("@")
    if not at or not name:
        return parse_name(text), None
    if not version:
        raise ConfigurationError(f"{text!r}: expected NAME or NAME@VERSION")
    return parse_name(name), version


async def explain_subject(wishes: Wishes, subject: str) -> tuple[Explanation, Facts]:
    """Explain one package or version, from the storage alone.

    Raises:
        ConfigurationError: the subject is no name, or no storage is configured.
        StorageError: the storage failed.
    """
    name, wanted = parse_subject(subject)
    async with open_mirror(wishes.config) as storage:
        catalogue = Catalogue(storage)
        stored = await read_stored(storage, name)
        version = None if wanted is None else Version(wanted)
        if version is not None and stored is not None and version not in stored.time:
            version = Version(stored.dist_tags.get(version, version))
        prefix = layout.evidence_prefix(name, version)
        facts = Facts(
            name=name,
            version=version,
            record=await catalogue.read_record(name),
            note=await catalogue.read_unfinished(name),
            tombstones=await catalogue.read_tombstones(name, version),
            releases=await catalogue.read_release_notes(name),
            evidence=await catalogue.keys(prefix),
            selection=_find_selection(wishes),
            stored=stored,
        )
    return explain(facts), facts


def _find_selection(wishes: Wishes) -> Selection | None:
    try:
        return wishes.selection()
    except SelectionError:
        return None  # a storage can be asked from anywhere, also without the file that says what is selected
