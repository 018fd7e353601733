"""The prior: a flow-matching U-Net of 2-D EM images.

`card` (what a prior is; no torch), `flow` (the path and the loss), `network` (velocity(x, t)),
`patches` and `training` (where weights come from), `checkpoint` (files).
"""
