"""Rows for the tests of the bench runner."""
