"""Faults made on purpose: see docs/reliability.md and `make faults`."""
