"""The Engine API's server: engine and swarm, as the docker CLI and every other client of that API see them.

Owns paths, headers, statuses, Docker's texts, streams and filters' syntax. What a call does is the engine's and the
swarm's business; only here errors become HTTP.
"""
