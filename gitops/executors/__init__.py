"""What the agent can run: one module a kind of task."""
