"""The log mirror: holds the entries of other logs, serves them, and cosigns what it holds (C2SP tlog-mirror)."""
