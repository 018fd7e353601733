"""One run of the workflow: resolve, plan, restore, stitch, calibrate, write down."""
