"""The parts of `tools/prove_card.py`: stages, what they measure, and the report."""
