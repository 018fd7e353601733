"""How far a restored volume can be trusted: one measure per module, each additive over tiles."""
