"""What the evaluation measures.

A new section is a function in ``scores.py`` (one frame → named figures), an entry in
``sections.py`` (which frames, which table), and a pair of marks in the model card.

A new condition of the realism table is an entry in ``realism.CONDITIONS``, a new real
stack one in ``stacks.STACKS``; ``evaluate_real.py`` measures both.
"""
