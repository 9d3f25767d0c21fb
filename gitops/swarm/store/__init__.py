"""The object store: in memory, indexed, versioned, watched, in front of a durable log."""
