"""From a folder of images without labels to masks: what a model's concepts show in it."""
