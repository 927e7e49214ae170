"""Feedback: importers, the store, validation."""
