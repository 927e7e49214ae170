"""What rewardloop costs beside what others use for the same work: seconds, rows per second, peak memory."""
