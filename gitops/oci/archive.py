"""Images in archives: what `docker save` writes, OCI archives (tar, perhaps compressed), OCI layout directories.

An archive is read as an index of names to pieces of a file. No name of an archive ever becomes a path on disk, and
nothing outside the archive can be reached through it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gitops.oci import digest as digests
from gitops.oci import manifest as manifests
from gitops.oci.blob import LayerBlob


@dataclass(frozen=True, slots=True)
class ArchivedImage:
    """One image of an archive. Its layers can be opened as long as the archive is."""

    tags: Sequence[str]
    """Canonical references, as far as the archive names any."""
    config: bytes
    layers: Sequence[LayerBlob]
    """Lowest first, one for each diff id of the config."""
    manifest: bytes | None = None
    """As it stands in an OCI archive; what `docker save` writes has none."""

    @property
    def id(self) -> str:
        """The image's id: the digest of its config."""
        return digests.sha256(self.config)

    def parsed_config(self) -> manifests.ImageConfig:
        """The config, read."""
        return manifests.parse_config(self.config)
