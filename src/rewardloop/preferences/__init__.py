"""Labels become ranked groups in leak-proof splits."""
