"""Swarm mode: services become tasks, tasks are placed on nodes, nodes run them."""
