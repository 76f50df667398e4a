"""The mirror: what to copy, the one decision about each version, copying it, and checking it again."""
