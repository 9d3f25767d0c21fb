"""Figures beside the peers', taken in the same run; ratios, never assertions."""
