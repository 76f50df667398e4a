"""The composition root: nurseries, signals, servers and the one place that knows the ASGI server."""
