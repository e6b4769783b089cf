"""The guided page of a calibration with beads: optics, beads, sweep, fit, result."""
