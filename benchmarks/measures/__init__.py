"""One file for each measure: how its samples are taken, and how they are summarised."""
