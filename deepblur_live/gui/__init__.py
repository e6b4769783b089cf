"""The window: raw, deblurred and drift; it pulls on a timer and blocks nobody."""
