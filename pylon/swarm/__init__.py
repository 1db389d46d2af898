"""The customer: who is alive, who gets which job, and what came back."""
