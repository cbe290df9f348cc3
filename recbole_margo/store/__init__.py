"""What lies on disk, read and written without torch and without RecBole."""
