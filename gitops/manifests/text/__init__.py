"""YAML text to plain values with positions: the C parser's node graph, and our own YAML 1.2 rules over it."""
