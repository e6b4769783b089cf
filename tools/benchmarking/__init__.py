"""The benchmark's parts: clock, frames, executors, stages, report."""
