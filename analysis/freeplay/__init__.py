"""Free play (RQ1): what is picked, taken again, and taken after what."""
