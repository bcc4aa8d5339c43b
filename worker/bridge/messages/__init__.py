"""What a message becomes on the other side, by the rules of its route."""
