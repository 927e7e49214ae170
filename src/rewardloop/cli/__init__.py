"""The rewardloop command; the only place that may touch KFP."""
