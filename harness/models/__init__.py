"""Segmentation networks by name: `table` holds the facts (no torch), `build` makes the module."""
