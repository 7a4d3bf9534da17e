"""A C program that shows by itself what made a test red: recorded, written, cut down and tried."""
