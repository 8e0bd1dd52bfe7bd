"""More training for the VAE's decoder alone."""
from stage_vae import train_decoder as train  # noqa: F401
