"""What all figures share: colours, themes, marks."""
