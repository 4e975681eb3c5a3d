"""Stage `compress`."""
