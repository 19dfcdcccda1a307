"""Ways of training an embedder."""
