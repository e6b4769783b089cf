"""One rig: optics, camera, model, drift and display, read from a strict TOML file."""

from deepblur_live.profile.devices import Camera, Stage
from deepblur_live.profile.display import Display
from deepblur_live.profile.drift import Alerts, Drift
from deepblur_live.profile.files import load_profile, write_profile
from deepblur_live.profile.model import Model
from deepblur_live.profile.optics import NOLL_PRESETS, Channel, Optics
from deepblur_live.profile.rig import Profile, ProfileError, check_profile

__all__ = [
    "NOLL_PRESETS",
    "Alerts",
    "Camera",
    "Channel",
    "Display",
    "Drift",
    "Model",
    "Optics",
    "Profile",
    "ProfileError",
    "Stage",
    "check_profile",
    "load_profile",
    "write_profile",
]
