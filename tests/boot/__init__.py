"""Tests that start an engine."""
