"""The managers' side of the swarm: loops that watch one store and write back to it."""
