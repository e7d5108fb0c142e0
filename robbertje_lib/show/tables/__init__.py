"""Tables for people: how they look, and a module for each stage's own."""
