"""What is said to the model, and in which order."""
