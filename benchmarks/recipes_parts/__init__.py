"""Parts of the study of recipes."""
