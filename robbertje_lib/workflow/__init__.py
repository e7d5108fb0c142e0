"""The front door: plan and run stages, one notebook at a time, and check what came out."""
