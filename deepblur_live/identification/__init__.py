"""Frame → γ and its covariance: the spectrum, the ResNet18, the refinement."""

from deepblur_live.identification.bead_identifier import BeadIdentifier
from deepblur_live.identification.field.identifier import FieldIdentifier
from deepblur_live.identification.fit import Fit
from deepblur_live.identification.identifier import Identifier, Network, Noise
from deepblur_live.identification.network import (
    INPUT_SHAPE,
    IdentificationNet,
    network_input,
    outer_products,
)
from deepblur_live.identification.orientation import Orientation
from deepblur_live.identification.phase import Phase
from deepblur_live.identification.problem import Problem, Solution
from deepblur_live.identification.refine import SpectralRefiner
from deepblur_live.identification.running import PowerSpectrum
from deepblur_live.identification.signal_bins import SignalBins, signal_bins
from deepblur_live.identification.specimen import SpecimenSpectrum
from deepblur_live.identification.spectrum import (
    WINDOW,
    FrameSpectrum,
    weighted,
    welch,
)
from deepblur_live.identification.sweep.checks import SweepError
from deepblur_live.identification.sweep.focus_check import (
    CheckVerdict,
    FocusCheck,
    check_focus,
)
from deepblur_live.identification.sweep.focus_sweep import SweepResult, identify_sweep

__all__ = [
    "INPUT_SHAPE",
    "WINDOW",
    "BeadIdentifier",
    "CheckVerdict",
    "FieldIdentifier",
    "Fit",
    "FocusCheck",
    "FrameSpectrum",
    "IdentificationNet",
    "Identifier",
    "Network",
    "Noise",
    "Orientation",
    "Phase",
    "PowerSpectrum",
    "Problem",
    "SignalBins",
    "Solution",
    "SpecimenSpectrum",
    "SpectralRefiner",
    "SweepError",
    "SweepResult",
    "check_focus",
    "identify_sweep",
    "network_input",
    "outer_products",
    "signal_bins",
    "weighted",
    "welch",
]
