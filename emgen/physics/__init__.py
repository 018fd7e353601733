"""What a microscope does to tissue: operators, noise, blur, interpolation, missing sections."""
