"""A manifest's text, with the file that it stands in."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SourceText:
    """A manifest's text: of a file, or rendered from a template (lines are then those of the result)."""

    name: str
    text: str = field(repr=False)
    """May hold a secret, as all that is made of it: none of it is shown by `repr`."""
    is_rendered: bool = False
    directory: str = ""
    """The file's real directory: what relative paths in it start from."""
