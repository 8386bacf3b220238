"""The page of the report. A package, so that its files are installed with the code."""
