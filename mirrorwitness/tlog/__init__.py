"""Transparency-log formats, as C2SP defines them. Pure: bytes in, values out."""
