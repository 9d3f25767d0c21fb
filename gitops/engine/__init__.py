"""One host: images, containers, networks, volumes, and what they share (database, events)."""
