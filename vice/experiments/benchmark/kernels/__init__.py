"""What the compiled kernels cost, read from their machine code."""
