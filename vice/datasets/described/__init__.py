"""Labelled folders of any layout, described once in ``dataset.yaml`` and read as they are.

`recognize.recognize` looks at a folder and writes the description, with a reason for each decision;
people change what is not so. `described_set.DescribedSet` reads images and labels by it.
"""
