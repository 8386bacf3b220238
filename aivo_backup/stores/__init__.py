"""The three stores, and what they share: the port, AWS clients, and running programs."""
