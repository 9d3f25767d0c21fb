"""Declarative, git-driven containers: manifests, a reconciler, and a built-in engine and swarm."""

__version__ = "0.1.0"
