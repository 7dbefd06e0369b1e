"""A simulated week: what reaches the destinations, event by event, against what they should hold."""
