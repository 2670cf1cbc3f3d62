"""Official measures, predictions files and exports."""
