"""A blur that varies over the field: one joint fit to the cells of a frame."""
