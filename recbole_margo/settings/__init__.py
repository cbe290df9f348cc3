"""The checks of RecBole's keys and their values, before anything is loaded."""
