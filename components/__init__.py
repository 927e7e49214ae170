"""The vocabulary of the pipelines: one typed KFP component per step, no logic."""

IMAGE = "python:3.11-slim"
"""Image of every component until a placement names another; it must hold the rewardloop wheel."""
