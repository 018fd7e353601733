"""Posterior samplers and what they take: velocities of planes, counter-based noise."""
