"""Beta, the price of a nat of KL: fixed, or moved so that the KL comes to a target."""

from rewardloop.config import KlSettings

_LARGEST_ERROR = 0.2


class KlControl:
    """Ziegler et al. 2019, section 2.2: log-proportional control with the error clipped to 20%."""

    def __init__(self, settings: KlSettings) -> None:
        self.settings = settings
        self.beta = settings.beta

    def update(self, kl: float, episodes: int) -> None:
        """After ``episodes`` answers whose mean KL was ``kl``."""
        if not self.settings.adaptive:
            return
        error = min(max(kl / self.settings.target - 1, -_LARGEST_ERROR), _LARGEST_ERROR)
        # An update of more episodes than the horizon must not turn the price around.
        self.beta *= max(0.5, 1 + error * episodes / self.settings.horizon)
