"""Broken, odd and hostile files of feedback, made by the thousand and ingested for real."""
