"""Training: what every trainer here shares, from LoRA and precision to journal and state."""
