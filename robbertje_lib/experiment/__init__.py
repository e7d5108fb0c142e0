"""What a run is: profile, folders, result files, and where everything comes from."""
