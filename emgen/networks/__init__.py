"""Trained networks: weights, cards, the U-Nets, and how they are run on a device."""
