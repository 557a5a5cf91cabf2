"""Measurements that docs quote, each a command of its own; `bench/` has those of `make bench`."""
