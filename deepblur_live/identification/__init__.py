"""Frame → γ and its covariance: the spectrum, the ResNet18, the refinement."""

from deepblur_live.identification.fit import Fit
from deepblur_live.identification.identifier import Identifier, Network, Noise
from deepblur_live.identification.network import (
    INPUT_SHAPE,
    IdentificationNet,
    network_input,
    outer_products,
)
from deepblur_live.identification.phase import Phase
from deepblur_live.identification.question import Answer, Question
from deepblur_live.identification.refine import SpectralRefiner
from deepblur_live.identification.reliability import Reliable, reliable
from deepblur_live.identification.rotation import Rotation
from deepblur_live.identification.running import PowerSpectrum
from deepblur_live.identification.specimen import SpecimenSpectrum
from deepblur_live.identification.spectrum import (
    WINDOW,
    FrameSpectrum,
    weighed,
    welch,
)

__all__ = [
    "INPUT_SHAPE",
    "WINDOW",
    "Answer",
    "Fit",
    "FrameSpectrum",
    "IdentificationNet",
    "Identifier",
    "Network",
    "Noise",
    "Phase",
    "PowerSpectrum",
    "Question",
    "Reliable",
    "Rotation",
    "SpecimenSpectrum",
    "SpectralRefiner",
    "network_input",
    "outer_products",
    "reliable",
    "weighed",
    "welch",
]
