"""What leads to a field of a document: keys and indexes, from the top."""

from __future__ import annotations

Path = tuple[str | int, ...]
