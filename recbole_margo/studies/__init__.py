"""The studies: many trainings, or a look into finished ones, and what they found."""
