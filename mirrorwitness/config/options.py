"""Every option of `mirrorwitness.toml`, with its default, unit and meaning: the one table.

The structs here are read by `mirrorwitness.config.load` (types, defaults, unknown keys), written by
`mirrorwitness.config.render` (the commented file of ``init``), and listed by `list_options` for the documentation and
its tests. To add an option, add an attribute with a description; nothing else.

Rules:

- Every limit is an option with a unit; the base unit stands in the description.
- A description is whole sentences, for people who run a mirror.
- A default that is None means "not set".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeAlias, get_type_hints

from msgspec import NODEFAULT, Meta, structs

from mirrorwitness.config.feed import Feed
from mirrorwitness.config.limits import Limits
from mirrorwitness.config.quantities import ByteCount, Seconds
from mirrorwitness.config.sumdb import Sumdb
from mirrorwitness.config.table import Table

__all__ = [
    "Deny",
    "Feed",
    "Limits",
    "Observe",
    "Option",
    "Registry",
    "Select",
    "Serve",
    "Settings",
    "Sumdb",
    "list_options",
]

_MIB: Final = 1024 * 1024

_Texts: TypeAlias = str | tuple[str, ...]


class Registry(Table, frozen=True):
    """One registry or other mirror."""

    url: Annotated[
        str,
        Meta(
            description="Base address. The first [[registry]] is the authority for metadata; the others, any mirrors, "
            "may supply bytes, which are verified all the same.",
            examples=["https://registry.example/"],
        ),
    ]
    token_env: Annotated[
        str | None,
        Meta(
            description="Name of the environment variable that holds the access token. The token itself never stands "
            "here.",
            examples=["EXAMPLE_TOKEN"],
        ),
    ] = None
    role: Annotated[
        Literal["fallback", "peer"],
        Meta(
            description='When a registry after the first is asked for bytes: a "peer" before the authority, which '
            'spares it; a "fallback" where the authority has not got them.',
        ),
    ] = "fallback"
    tarball_hosts: Annotated[
        tuple[str, ...],
        Meta(
            description="Hosts besides the registry's own from which its tarballs may come.",
            examples=[["cdn.example"]],
        ),
    ] = ()


class Select(Table, frozen=True):
    """One wish: packages by name, glob or scope, or a lockfile."""

    name: Annotated[
        _Texts | None,
        Meta(
            description="A name, a glob or a whole scope; or a list of them. Globs need names_from.",
            examples=["react", ["@babel/*", "babel-*"]],
        ),
    ] = None
    lockfile: Annotated[
        _Texts | None,
        Meta(
            description="A lockfile, or a list of them, instead of a name: exactly the versions that it pins. Relative "
            "to this file.",
            examples=["package-lock.json"],
        ),
    ] = None
    versions: Annotated[
        str | None, Meta(description="A range in npm's syntax; every version otherwise.", examples=["^18 || ^19"])
    ] = None
    latest: Annotated[
        int | None,
        Meta(description="At most this many versions, the newest by version number.", examples=[3]),
    ] = None
    prereleases: Annotated[bool, Meta(description="Count prereleases among the newest too.", examples=[True])] = False
    tag: Annotated[
        str | None, Meta(description="The version that a dist-tag points to, instead of versions.", examples=["next"])
    ] = None


class Deny(Table, frozen=True):
    """One thing that must not be in the mirror, whoever asks for it."""

    name: Annotated[_Texts, Meta(description="A name, a glob or a whole scope; or a list.", examples=["event-stream"])]
    reason: Annotated[
        str, Meta(description="Why; it is shown to those who miss it.", examples=["held malicious code in 2018"])
    ]
    versions: Annotated[
        str | None, Meta(description="A range in npm's syntax; every version otherwise.", examples=["3.3.6"])
    ] = None


class Serve(Table, frozen=True):
    """How `mirrorwitness serve` answers."""

    listen: Annotated[str, Meta(description="Host and port; port 0 takes a free one.", examples=["127.0.0.1:4873"])] = (
        "127.0.0.1:4873"
    )
    trust_forwarded: Annotated[
        bool,
        Meta(
            description="Believe X-Forwarded-Proto, -Host and -Prefix. Only where clients cannot reach the server but "
            "through the proxy that sets them.",
        ),
    ] = False
    packument_max_age: Annotated[Seconds, Meta(description="How long shared caches may keep a document. Seconds.")] = (
        Seconds(300)
    )
    cache_memory: Annotated[ByteCount, Meta(description="Rendered and compressed documents kept in memory. Bytes.")] = (
        ByteCount(64 * _MIB)
    )
    fresh_for: Annotated[
        Seconds,
        Meta(description="How long an object is believed unchanged before the storage is asked again. Seconds."),
    ] = Seconds(1)


class Observe(Table, frozen=True):
    """What the mirror tells those who run it, and when it calls itself stuck."""

    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None,
        Meta(
            description="The least that is logged to standard error: JSON lines, or text on a terminal. Without it "
            "`sync --follow` and `serve` log from info on (on a terminal from warning), all else errors only.",
            examples=["info"],
        ),
    ] = None
    metrics: Annotated[
        str | None,
        Meta(
            description="Host and port where `sync --follow` answers /metrics, /healthz and /readyz; nothing listens "
            "without it. Each further one of --processes N takes the next port.",
            examples=["127.0.0.1:9464"],
        ),
    ] = None
    saved_within: Annotated[
        Seconds,
        Meta(
            description="Readiness says no when a shard's cursor was not saved for longer: nobody follows. Scheduled "
            "runs need more than their interval; 0 does not ask. Seconds."
        ),
    ] = Seconds(6 * 3600)
    lag_most: Annotated[
        Seconds,
        Meta(
            description="Readiness says no when a shard lags further behind its feed; 0 does not ask. Seconds.",
        ),
    ] = Seconds(86_400)


class Settings(Table, frozen=True):
    """The whole file."""

    storage: Annotated[
        str | None,
        Meta(
            description="Where the mirror lives: file:DIR, or s3://BUCKET/PREFIX?endpoint=URL.",
            examples=["file:./mirror", "s3://mirror/npm?endpoint=https://s3.example"],
        ),
    ] = None
    contact: Annotated[
        str | None,
        Meta(
            description="Address at which the operator of an upstream reaches you; it stands in the User-Agent.",
            examples=["mirror-admin@example.org"],
        ),
    ] = None
    public_url: Annotated[
        str | None,
        Meta(
            description="Address under which clients know this mirror. Without it, tarball addresses follow each "
            "request.",
            examples=["https://npm.example.org"],
        ),
    ] = None
    mirror_key: Annotated[
        str | None,
        Meta(
            description="File with the private key that signs what this mirror says of itself; `mirrorwitness keygen` "
            "makes one. Relative to this file.",
            examples=["mirror.key"],
        ),
    ] = None
    signatures: Annotated[
        Literal["require", "verify", "off"],
        Meta(
            description='"verify" refuses a bad signature and accepts a missing one; "require" accepts only versions '
            'whose signature verified; "off" checks none.'
        ),
    ] = "verify"
    withdrawn: Annotated[
        Literal["follow", "hold", "hide", "purge"],
        Meta(
            description='What becomes of versions that upstream withdraws. "follow" does as upstream does: not served '
            'while upstream does not list them, bytes kept; "hold" goes on serving them; "hide" stops serving them '
            'until `mirrorwitness release`, also where upstream lists them again; "purge" does so and deletes their '
            "bytes. What upstream took away for security is quarantined under every one of them."
        ),
    ] = "follow"
    names_from: Annotated[
        str | None,
        Meta(
            description="File with one package name on each line, from which globs choose. Relative to this file.",
            examples=["names.txt"],
        ),
    ] = None
    spool_directory: Annotated[
        str | None,
        Meta(
            description="Directory for downloads that do not fit in memory; the system's temporary one otherwise.",
            examples=["/var/tmp"],  # noqa: S108  (an example in the documentation)
        ),
    ] = None
    scopes: Annotated[
        dict[str, str],
        Meta(
            description="Scope and the address of the registry that it is at home at, for scopes of which the first "
            "[[registry]] must not be asked. Wins over what npm's configuration says.",
            examples=[{"@corp": "https://npm.corp.example"}],
        ),
    ] = {}  # noqa: RUF012 - msgspec gives each its own
    feed: Feed = Feed()
    sumdb: Sumdb = Sumdb()
    limits: Limits = Limits()
    serve: Serve = Serve()
    observe: Observe = Observe()
    registry: tuple[Registry, ...] = ()
    select: tuple[Select, ...] = ()
    deny: tuple[Deny, ...] = ()


@dataclass(frozen=True, slots=True)
class Option:
    """One option, for documentation.

    Attributes:
        key: its path: ``storage``, ``limits.concurrency``, ``select[].name``.
        default: its default; None where it is not set.
        required: whether its table cannot be without it.
        description: sentences for people.
        examples: values as they can stand in the file.
        environment: the environment variable that sets it, None where there is none.
    """

    key: str
    default: object
    required: bool
    description: str
    examples: tuple[object, ...]
    environment: str | None


def list_options() -> tuple[Option, ...]:
    """Return every option, in the order of the file."""
    found = [
        *_list(Settings, "", "MIRRORWITNESS_"),
        *_list(Registry, "registry[].", None),
        *_list(Select, "select[].", None),
        *_list(Deny, "deny[].", None),
        *_list(Feed, "feed.", "MIRRORWITNESS_FEED_"),
        *_list(Sumdb, "sumdb.", "MIRRORWITNESS_SUMDB_"),
        *_list(Limits, "limits.", "MIRRORWITNESS_LIMITS_"),
        *_list(Serve, "serve.", "MIRRORWITNESS_SERVE_"),
        *_list(Observe, "observe.", "MIRRORWITNESS_OBSERVE_"),
    ]
    return tuple(found)


def _list(table: type[Table], prefix: str, environment: str | None) -> list[Option]:
    hints = get_type_hints(table, include_extras=True)
    options: list[Option] = []
    for field in structs.fields(table):
        metas = [meta for meta in getattr(hints[field.name], "__metadata__", ()) if isinstance(meta, Meta)]
        if not metas:
            continue  # a table of its own
        (meta,) = metas
        default = field.default_factory() if field.default_factory is not NODEFAULT else field.default
        required = default is NODEFAULT
        options.append(
            Option(
                key=f"{prefix}{field.name}",
                default=None if required else default,
                required=required,
                description=meta.description or "",
                examples=tuple(meta.examples or ()),
                environment=None if environment is None or default == {} else environment + field.name.upper(),
            )
        )
    return options
