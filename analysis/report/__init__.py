"""The report: reading runs, drawing all figures, comparing, writing files."""
