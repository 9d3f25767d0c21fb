"""What the database knows of images: rows of the tables `layers`, `images` and `image-names`."""

from __future__ import annotations

import msgspec

from gitops.oci import manifest as manifests

LAYERS = "layers"
"""`Layer` by chain id."""
IMAGES = "images"
"""`Image` by image id."""
NAMES = "image-names"
"""`Name` by canonical reference, with a tag or with a digest."""


class Layer(msgspec.Struct, frozen=True):
    """A directory under `layers/`, complete and durable; sizes in bytes."""

    chain_id: str
    parent: str
    """The chain id below, "" for none."""
    diff_id: str
    digest: str
    """Of the blob that it was unpacked from."""
    size: int
    """Of that blob."""
    media_type: str
    """Of that blob."""
    unpacked_bytes: int
    disk_bytes: int
    """As `du` would count."""
    members: int
    short: str
    """The name of its symlink under `l/`."""
    is_opaque: bool = False
    """Nothing below it may be mounted."""


class ImageLayer(msgspec.Struct, frozen=True):
    """A layer of an image: its directory's key, and the blob that the image's manifest names."""

    chain_id: str
    digest: str


class Image(msgspec.Struct, frozen=True):
    """An image that is complete: every layer has its row, manifest and config are blobs."""

    id: str
    """The digest of its config."""
    manifest: manifests.Descriptor
    layers: list[ImageLayer]
    """Lowest first."""
    stored_ns: int
    tagged_ns: int = 0
    """When it got its last name, 0 for never; nanoseconds since the epoch."""
    is_removed: bool = False
    """Has been deleted while a container is still made of it: nameless and invisible, its layers kept."""

    @property
    def blobs(self) -> list[str]:
        """Digests of all that a registry would have of it."""
        return [self.manifest.digest, self.id, *(layer.digest for layer in self.layers)]


class Name(msgspec.Struct, frozen=True):
    """What a reference stands for."""

    image_id: str
