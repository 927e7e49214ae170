"""The loop by itself: claims, triggers, housekeeping, drift, and who is told."""
