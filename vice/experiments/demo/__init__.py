"""The demo: data made on the spot, and the pictures of its report."""
