"""Virtual time and fake nodes: what runs `gitops.swarm` unmodified, replayable from a seed."""
