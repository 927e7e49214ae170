"""What people are asked to label, who is asked what, and what leaves for other tools."""
