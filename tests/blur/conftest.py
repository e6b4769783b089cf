"""Put this folder's family and operator on the path, of worker processes too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
