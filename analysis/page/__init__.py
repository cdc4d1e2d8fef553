"""What all pages and tables of text share."""
