"""mirrorwitness: npm mirrors that can be verified.

Packages, high to low (a higher one imports a lower one, never the reverse): `cli`, `run`, `config` and `server`,
`mirror`, `npm` and `storage`, `fetch`, `telemetry`, `errors`. Only the command line is a stable interface.
"""
