"""The kinds by name. Each is imported when the first manifest of it is read: building models takes time."""

from __future__ import annotations

from collections.abc import Callable

from gitops.manifests.kinds.base import Manifest


def _image() -> type[Manifest]:
    from gitops.manifests.kinds.image import Image

    return Image


def _service() -> type[Manifest]:
    from gitops.manifests.kinds.service import Service

    return Service


def _network() -> type[Manifest]:
    from gitops.manifests.kinds.network import Network

    return Network


def _volume() -> type[Manifest]:
    from gitops.manifests.kinds.storage import Volume

    return Volume


def _secret() -> type[Manifest]:
    from gitops.manifests.kinds.storage import Secret

    return Secret


def _config() -> type[Manifest]:
    from gitops.manifests.kinds.storage import Config

    return Config


def _stack() -> type[Manifest]:
    from gitops.manifests.kinds.stack import Stack

    return Stack


KINDS: dict[str, Callable[[], type[Manifest]]] = {
    "Image": _image,
    "Service": _service,
    "Network": _network,
    "Volume": _volume,
    "Secret": _secret,
    "Config": _config,
    "Stack": _stack,
}
NOT_YET = ("Source", "Target", "Policy", "Notification", "Receiver", "ImagePolicySet")
"""Kinds that are known, and refused by name."""
