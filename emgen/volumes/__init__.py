"""Voxels on disk and in memory: OME-Zarr, other formats, the block grid, grey values."""
