"""The witness: cosigns the checkpoints of transparency logs, and never contradicts itself (P7)."""
