"""Desired against live: reads both, says what differs, and makes it so, as a client of the Engine API."""
