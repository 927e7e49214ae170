"""Labelers that are no people: a model that judges answers by a constitution, programs that look at them."""
