"""The files of datasets and runs, read and written without torch and without RecBole."""
