"""What a run is handed on as: the page, and the command that shows runs."""
