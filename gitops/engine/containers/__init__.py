"""Containers of one engine: OCI bundles that an OCI runtime runs under conmon."""

from gitops.engine.containers.boundary import Images, ImageUser, InjectedFile, LogRecord
from gitops.engine.containers.service import ContainerService

__all__ = ["ContainerService", "ImageUser", "Images", "InjectedFile", "LogRecord"]
