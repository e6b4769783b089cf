"""Live blind deblurring for microscopes, with the optics under watch."""
