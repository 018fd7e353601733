"""What a network can be trained for: the prior, an estimate between sections, an estimate within them."""
