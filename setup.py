"""Packaging: the library, with the configs and command lines of the checkout inside it."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (HERE / "vice" / "_version.py").read_text()).group(1)

# requirements/runtime.txt pins a set that is tested as a whole; these are the bounds a user of the
# library alone needs.
CORE = ["torch>=2.11", "torchvision>=0.26", "numpy>=2.0", "pillow"]
IMAGES = ["opencv-contrib-python-headless>=4.9,<5"]
KMEANS = ["faiss-cpu>=1.9"]
CHECKPOINTS = ["safetensors>=0.4"]
#: Folders of the checkout that the wheel holds below ``vice``.
BROUGHT_ALONG = ("configs", "tools", "requirements")

setup(
    name="vice-embeddings",
    version=VERSION,
    description="Visual concept embeddings learnt from raw images by contrasting cluster "
    "assignments over superpixels",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 14)),
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
    packages=[
        *find_packages(include=["vice", "vice.*"]),
        *(f"vice.{folder}" for folder in BROUGHT_ALONG),
    ],
    package_dir={f"vice.{folder}": folder for folder in BROUGHT_ALONG},
    entry_points={"console_scripts": ["vice = vice.command.console:main"]},
    package_data={
        "vice": ["py.typed", "datasets/tables/*.csv"],
        "vice.explore": ["page/*"],
        "vice.regions.compiled": ["*.c", "*.h"],
        "vice.requirements": ["training.txt", "scoring.txt"],
        "vice.configs": ["config/**/*.yaml", "mmseg/**/*.py", "tables/**/*.yaml"],
    },
    install_requires=[*CORE, *IMAGES, *CHECKPOINTS],
    extras_require={
        "explore": KMEANS,
        "scoring": [*KMEANS, "scipy>=1.11"],
        "objects": ["scikit-learn>=1.4"],
        "crf": ["pydensecrf2>=1.1"],
        "coco": ["pycocotools>=2.0.8"],
        "timm": ["timm>=1.0"],
        "export": ["onnx>=1.18", "onnxscript>=0.5", "onnxruntime>=1.20"],
        "hub": ["huggingface_hub>=0.30"],
        "zarr": ["zarr>=3"],
        "parquet": ["pyarrow>=17"],
        "tiff": ["tifffile>=2023.2"],
        "heif": ["pillow-heif>=0.18"],
        "avif": ["pillow-avif-plugin>=1.4"],
        "pictures": ["matplotlib>=3.8", "scikit-image>=0.22"],
        "vissl": ["vissl==0.1.6", "classy-vision==0.7.0", "hydra-core==1.3.2", "submitit>=1.5"],
        "mmseg": ["onedl-mmsegmentation>=1.4", "onedl-mmengine>=0.10.12", "mmcv-lite>=2.1"],
    },
)
