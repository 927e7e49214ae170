"""Base models, the reward model and the one way a text is scored."""
