"""Compiled pipelines, shipped with the wheel."""
