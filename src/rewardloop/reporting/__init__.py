"""What people read of a run: the HTML report, its plots and the short printed summary."""
