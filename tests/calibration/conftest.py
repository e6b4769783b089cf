"""Makes importable: slides and states simulated for tests, and the tools' PSF code."""

import sys
from pathlib import Path

_HERE = Path(__file__).parent
sys.path += [str(_HERE), str(_HERE.parent / "blur"), str(_HERE.parents[1] / "tools")]
