"""What the networks are trained on, and the loop that trains them."""
