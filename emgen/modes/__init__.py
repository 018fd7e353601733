"""What a restoration mode is: one file each."""
