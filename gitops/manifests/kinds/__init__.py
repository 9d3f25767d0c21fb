"""The kinds that people write, as models: fields in Compose's words, short forms accepted, values normalised.

Durations become nanoseconds, sizes bytes, CPUs billionths, modes integers. What is known but not supported yet stands
by name in each model's `NOT_YET`, and what Compose knows and no swarm has in its `NEVER`, so that it can be refused as
such.
"""
