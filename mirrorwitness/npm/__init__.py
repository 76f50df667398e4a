"""The npm registry's formats (pure modules) and the client of one registry (`mirrorwitness.npm.registry`)."""
