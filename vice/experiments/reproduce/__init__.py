"""The papers' experiments as data, and what runs them."""
