"""Episodes and what is said about them: LeRobot v3.0 on disk, importers, annotations."""
