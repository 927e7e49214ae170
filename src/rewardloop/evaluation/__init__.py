"""What a candidate is worth on held-out items, its threshold, and the gate."""
