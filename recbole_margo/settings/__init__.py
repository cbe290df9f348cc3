"""What the values of RecBole's keys may be, looked at before anything is loaded."""
