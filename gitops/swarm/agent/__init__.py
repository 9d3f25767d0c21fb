"""The node's half of the swarm: pulls assignments, drives a controller for each task, reports statuses."""
