"""Formats that embeddings are written in, named apart so that help needs no library."""

#: Format to the package that it needs; empty for none.
PACKAGE_OF = {"npz": "", "zarr": "zarr", "parquet": "pyarrow"}
