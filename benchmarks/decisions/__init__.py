"""Decisions measured against planted truths; see ``__main__``."""
