"""The checksum database: an append-only log of what registries published, and everything that checks against it."""
