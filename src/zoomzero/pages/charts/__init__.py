"""The pages' charts: matplotlib figures, rendered to static SVG in the colours of the style sheet."""
