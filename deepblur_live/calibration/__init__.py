"""From a slide of beads to the microscope's blur."""
