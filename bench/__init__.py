"""Measurements of the whole path, as ratios against a baseline of the same run."""
