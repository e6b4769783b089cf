"""Planes of one specimen at known z → γ with its sign, and a check of estimates."""
