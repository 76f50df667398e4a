"""Configuration: `mirrorwitness.toml`, ``MIRRORWITNESS_…`` variables and flags become one frozen `Config`."""

from __future__ import annotations

from mirrorwitness.config.load import DEFAULT_FILE, Config, find_config, load_config
from mirrorwitness.config.options import Feed, Limits, Observe, Option, Registry, Serve, Sumdb, list_options
from mirrorwitness.config.render import render_config
from mirrorwitness.config.sumdb import CheckedLog, parse_sumdb_flag

__all__ = [
    "DEFAULT_FILE",
    "CheckedLog",
    "Config",
    "Feed",
    "Limits",
    "Observe",
    "Option",
    "Registry",
    "Serve",
    "Sumdb",
    "find_config",
    "list_options",
    "load_config",
    "parse_sumdb_flag",
    "render_config",
]
