"""The bench runner."""
