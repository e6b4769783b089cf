"""What the evaluation measures, one section a module.

A new section is a module with a ``SECTION`` (see `section.Section`), named in
``SECTIONS`` of ``evaluate.py``, and a pair of marks of its name in the README.
"""
