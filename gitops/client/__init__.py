"""Client of the Docker Engine API: ours, or a real Docker Engine's.

`connect` is the door:

    async with client.connect(None) as engine:
        for service in await engine.services():
            ...

Knows objects only. Every failure is an error of `gitops.errors` with the engine's text.
"""

from gitops.client.containers import LogFrame
from gitops.client.endpoint import DEFAULT_HOST, HOST_VARIABLE
from gitops.client.engine import EngineClient, connect

__all__ = ["DEFAULT_HOST", "HOST_VARIABLE", "EngineClient", "LogFrame", "connect"]
