"""The benchmark's parts: clock, floor, frames, stages, report."""
