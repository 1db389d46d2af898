"""Who pays first, who may run on account, and what a job costs."""
