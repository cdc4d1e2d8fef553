"""What tests share: tiny models, templates, libraries, scripted words, and logs made by hand or simulated."""
