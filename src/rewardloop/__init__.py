"""rewardloop: people's feedback in, a registered reward model with a guaranteed threshold out, and again."""

__version__ = "0.1.0"
